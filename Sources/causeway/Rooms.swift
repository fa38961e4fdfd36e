// Where the command calls into the rooms below: each call in one place, with its errors made messages.

import BlockBackend
import DriverSupport
import FrameTrace
import Glibc
import HostDevices
import Hypervisor
import HypervisorCore
import LibxenHypervisor
import LinuxSystem
import LoopbackHypervisor
import NetworkBackend
import NetworkFrontend
import Toolstack
import XenBus
import XenStore
import XenWire

enum Rooms {
    /// Serves a loopback host until the process is asked to end.
    static func serveHost(in directory: RunDirectory, machineSeed: UInt64) throws(Failure) {
        Signals.block(Signals.termination)
        let host = try refusing("host") { () throws(HypervisorError) in
            var limits = HypervisorLimits()
            limits.machineSeed = machineSeed
            return try LoopbackHost(runDirectory: directory.path, limits: limits)
        }
        try refusing("host") { () throws(HypervisorError) in try host.start() }
        defer { host.stop() }
        let store = try directory.connectStore()
        do { try DomainDirectories(store: store).createControlDomain() } catch { throw Failure("host: \(error)") }
        store.close()
        while Signals.wait(for: Signals.termination, milliseconds: 1_000_000) == nil {}
    }

    /// Serves a domain's disks and interfaces until the process is asked to end.
    static func serveBackend(in directory: RunDirectory, domain: DomainID, _ work: BackendWork) throws(Failure) {
        Signals.block(Signals.termination)
        let hypervisor = try refusing("backend") { () throws(HypervisorError) in
            try LoopbackHypervisor.connect(runDirectory: directory.path, domain: domain)
        }
        try serve(
            hypervisor, work, runDirectory: directory.path,
            scriptStore: work.interfaces.waitsForScript ? nil : directory.storeSocket)
        hypervisor.disconnect()
    }

    /// Serves this domain's disks and interfaces on the Xen below, until the process is asked to end.
    /// - Parameter scripts: whether to wait for hot-plug scripts; nil: in dom0, where xl runs them.
    static func serveXenBackend(_ given: BackendWork, scripts: Bool?, runDirectory: String) throws(Failure) {
        Signals.block(Signals.termination)
        // Before there are threads, and before anything of a guest's is looked at.
        let forInterfaces: [Capability] = given.servesInterfaces ? [.administerNetwork] : []
        do { try Privileges.keepOnly([.overrideFilePermissions, .lockMemory] + forInterfaces) } catch {
            throw Failure("backend: cannot give up capabilities: \(error)")
        }
        let hypervisor = try refusing("backend: --xen") { () throws(HypervisorError) in try LibxenHypervisor() }
        var work = given
        let waits = scripts ?? (hypervisor.domain == .zero)
        work.waitForScripts(waits)
        // Where scripts are waited for there is an xl that clears up, too.
        work.removeDirectories(!waits && hypervisor.domain != .zero)
        complain("backend: user \(geteuid()), capabilities \(Privileges.summary)")
        complain("backend: store \(hypervisor.storePath), \(GrantLimits.read())")
        try serve(hypervisor, work, runDirectory: runDirectory)
    }

    /// Disks on this thread, interfaces on another; both end together.
    /// - Parameter runDirectory: where `causeway status` and `causeway trace` look for this process.
    private static func serve<H: Hypervisor>(
        _ hypervisor: H, _ work: BackendWork, runDirectory: String, scriptStore: String? = nil
    ) throws(Failure) {
        let readiness = Readiness((work.servesDisks ? 1 : 0) + (work.servesInterfaces ? 1 : 0))
        let openDisk = DiskOpening(direct: work.disks.direct)
        let disks = BlockBackendService(hypervisor: hypervisor, options: work.disks, openDisk: openDisk.open) { line in
            complain("blkback: \(line)")
        } ready: {
            complain("blkback: serving domain \(hypervisor.domain)'s \(work.disks.kind)")
            readiness.count()
        }
        let records = work.interfaces.journalDirectory.map { TapRecords(directory: $0, kind: work.interfaces.kind) }
        let openTap = NetworkOpening(records: records, storeSocket: scriptStore)
        defer { openTap.finish() }
        let interfaces = NetworkBackendService(
            hypervisor: hypervisor, options: work.interfaces,
            openDevice: work.memoryVifs ? NetworkOpening.openMemory : openTap.open,
            removeLeftovers: openTap.removeLeftovers
        ) { line in
            complain("netback: \(line)")
        } ready: {
            complain("netback: serving domain \(hypervisor.domain)'s \(work.interfaces.kind)")
            readiness.count()
        }
        // On a Xen host nobody else makes it: there is no host's daemon.
        _ = unsafe mkdir(runDirectory, 0o700)
        let status = StatusSocket(in: runDirectory) { DeviceStatus.lines(disks.status) + DeviceStatus.lines(interfaces.status) }
        if status == nil { complain("backend: \(runDirectory): no socket can be made there for status, top and metrics") }
        defer { status?.close() }
        let tracing = work.servesInterfaces ? serveTraces(of: interfaces.traceSubjects, hypervisor.domain, runDirectory) : nil
        defer { tracing?.stop() }
        try Signals.onTermination {
            ServiceManager.tell("STOPPING=1")
            disks.stop()
            interfaces.stop()
        }
        if !work.servesDisks {
            do { try interfaces.run() } catch { throw Failure("netback: \(error)") }
            return
        }
        var thread: WorkerThread?
        if work.servesInterfaces {
            do {
                thread = try WorkerThread(name: "netback") {
                    do throws(BackendError) { try interfaces.run() } catch { complain("netback: \(error)") }
                }
            } catch { throw Failure("netback: cannot start a thread: \(error)") }
        }
        defer { thread?.join() }
        do { try disks.run() } catch {
            interfaces.stop()
            throw Failure("blkback: \(error)")
        }
        interfaces.stop()
    }

    /// Where `causeway trace` finds this backend. A backend that cannot have it serves all the same.
    private static func serveTraces(
        of subjects: any TraceSubjects, _ domain: DomainID, _ runDirectory: String
    ) -> TraceService? {
        let path = TraceService.path(in: runDirectory, backend: domain)
        do throws(Errno) { return try TraceService(path: path, subjects: subjects) } catch {
            complain("netback: \(path): \(error): `causeway trace` will not find this backend")
            return nil
        }
    }

    /// Runs an interface's frontend until the process is asked to end or the interface is gone.
    static func serveVif(
        in directory: RunDirectory, domain: DomainID, number: UInt32, tap name: String, options: NetworkFrontendOptions
    ) throws(Failure) {
        let hypervisor = try refusing("frontend") { () throws(HypervisorError) in
            try LoopbackHypervisor.connect(runDirectory: directory.path, domain: domain)
        }
        defer { hypervisor.disconnect() }
        try serveVif(on: hypervisor, number: number, tap: name, options: options)
    }

    /// The same for a vif of the domain that this process runs in, on the Xen below.
    static func serveXenVif(number: UInt32, tap name: String, options: NetworkFrontendOptions) throws(Failure) {
        let hypervisor = try refusing("frontend: --xen") { () throws(HypervisorError) in try LibxenHypervisor() }
        let settings = try refusing("frontend: --xen") { () throws(HypervisorError) in
            let store = try hypervisor.connectStore()
            defer { store.close() }
            return VifSettings(of: number, in: hypervisor.domain, store)
        }
        try serveVif(on: hypervisor, number: number, tap: name, settings, options: options)
    }

    private static func serveVif<H: Hypervisor>(
        on hypervisor: H, number: UInt32, tap name: String, _ settings: VifSettings = VifSettings(), options: NetworkFrontendOptions
    ) throws(Failure) {
        let frontend: NetworkFrontend<H>
        do {
            let tap = try TapDevice(name: name)
            if let address = settings.address { try HostInterface.setAddress(name, address) }
            if let mtu = settings.mtu { try HostInterface.setMTU(name, mtu) }
            frontend = try NetworkFrontend(hypervisor: hypervisor, number: number, device: tap, options: options) { line in
                complain("netfront: \(line)")
            }
            try frontend.start()
            try HostInterface.setUp(name)
        } catch { throw Failure("netfront: vif \(number): \(error)") }
        while Signals.wait(for: Signals.termination, milliseconds: 250) == nil {
            guard let failure = frontend.failure else { continue }
            frontend.close()
            if failure == .removed { return }
            throw Failure("netfront: \(failure)")
        }
        frontend.close()
    }

    /// Makes a domain; its number.
    static func createDomain(in directory: RunDirectory) throws(Failure) -> DomainID {
        try control(of: directory) { (control) throws(HypervisorError) in try control.createDomain().domain }
    }

    /// Ends a domain: everything it held is released.
    static func destroyDomain(_ domain: DomainID, in directory: RunDirectory) throws(Failure) {
        try control(of: directory) { (control) throws(HypervisorError) in try control.destroyDomain(domain) }
    }

    /// What each domain holds, and the host as a whole under nil.
    static func usage(of directory: RunDirectory) throws(Failure) -> [HostUsage] {
        try control(of: directory) { (control) throws(HypervisorError) in
            var all = [HostUsage(domain: nil, hypervisor: try control.usage(), store: try control.storeUsage())]
            for domain in try control.domains() {
                all.append(
                    HostUsage(
                        domain: domain, hypervisor: try control.usage(of: domain), store: try control.storeUsage(of: domain)))
            }
            return all
        }
    }

    private static func control<R>(
        of directory: RunDirectory, _ body: (LoopbackControl) throws(HypervisorError) -> R
    ) throws(Failure) -> R {
        try refusing("\(directory)") { () throws(HypervisorError) in
            let control = try LoopbackControl(runDirectory: directory.path)
            defer { control.disconnect() }
            return try body(control)
        }
    }

    /// Runs `body`; a hypervisor's refusal is a failure about `subject`.
    private static func refusing<R>(_ subject: String, _ body: () throws(HypervisorError) -> R) throws(Failure) -> R {
        do { return try body() } catch {
            switch error {
            case .grantRefused(let reference, let domain, let status):
                throw Failure("\(subject): grant \(reference) of domain \(domain): \(status)")
            case .portRefused(let port, let domain, let reason):
                throw Failure("\(subject): port \(port) of domain \(domain): \(reason)")
            case .exhausted(let what): throw Failure("\(subject): \(what)")
            case .disconnected(let why): throw Failure("\(subject): no connection to the hypervisor: \(why)")
            case .system(let reason, let doing): throw Failure("\(subject): \(doing): \(reason)")
            }
        }
    }
}

/// What the toolstack wants a guest's interface to look like, where it says so in the guest's own directory.
struct VifSettings {
    var address: MACAddress?
    var mtu: Int?

    init() {}

    init(of number: UInt32, in domain: DomainID, _ store: StoreClient) {
        let path = FrontendPath(domain: domain, kind: .network, number: number).path
        address = ((try? store.text(path + "/mac")) ?? nil).flatMap { MACAddress($0) }
        mtu = (try? store.number(path + "/mtu", in: 68...65521)) ?? nil
    }
}

/// What one domain holds; without a domain, the host as a whole.
struct HostUsage {
    let domain: DomainID?
    let hypervisor: HypervisorUsage
    let store: LoopbackStoreUsage
}

/// A guest: a domain of the hypervisor with its directories in the store.
enum GuestDomain {
    static func create(name: String, in directory: RunDirectory, store: StoreClient) throws(Failure) -> DomainID {
        let domain = try Rooms.createDomain(in: directory)
        do { try DomainDirectories(store: store).create(domain, name: "\(name)\(domain)") } catch {
            try? Rooms.destroyDomain(domain, in: directory)
            throw Failure("\(error)")
        }
        return domain
    }

    /// Ends the domain and clears the store of it; goes on past errors, and throws the first.
    static func destroy(_ domain: DomainID, in directory: RunDirectory, store: StoreClient) throws(Failure) {
        var first: Failure?
        do {
            let devices = DeviceDirectories(store: store)
            let paths = try devices.list(of: domain).map(\.paths) + devices.listInterfaces(of: domain).map(\.paths)
            for device in paths { try devices.remove(device, force: true, milliseconds: 2000) }
            try DomainDirectories(store: store).remove(domain)
        } catch { first = Failure("\(error)") }
        do { try Rooms.destroyDomain(domain, in: directory) } catch { first = first ?? error }
        if let first { throw first }
    }
}
