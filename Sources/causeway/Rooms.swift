// Where the command calls into the rooms below: each call in one place, with its errors made messages.

import BlockBackend
import Hypervisor
import HypervisorCore
import LibxenHypervisor
import LoopbackHypervisor
import Toolstack
import XenStore
import XenWire

enum Rooms {
    /// Serves a loopback host until the process is asked to end.
    static func serveHost(in directory: RunDirectory) throws(Failure) {
        Signals.block(Signals.termination)
        let host = try refusing("host") { () throws(HypervisorError) in try LoopbackHost(runDirectory: directory.path) }
        try refusing("host") { () throws(HypervisorError) in try host.start() }
        defer { host.stop() }
        let store = try directory.connectStore()
        do { try DomainDirectories(store: store).createControlDomain() } catch { throw Failure("host: \(error)") }
        store.close()
        while Signals.wait(for: Signals.termination, milliseconds: 1_000_000) == nil {}
    }

    /// Serves a domain's disks until the process is asked to end.
    static func serveBackend(in directory: RunDirectory, domain: DomainID, options: BlockBackendOptions) throws(Failure)
    {
        Signals.block(Signals.termination)
        let hypervisor = try refusing("backend") { () throws(HypervisorError) in
            try LoopbackHypervisor.connect(runDirectory: directory.path, domain: domain)
        }
        try serve(hypervisor, options)
        hypervisor.disconnect()
    }

    /// Serves this domain's disks on the Xen below, until the process is asked to end.
    /// - Parameter scripts: whether to wait for hot-plug scripts; nil: in dom0, where xl runs them.
    static func serveXenBackend(options: BlockBackendOptions, scripts: Bool?) throws(Failure) {
        Signals.block(Signals.termination)
        let hypervisor = try refusing("backend: --xen") { () throws(HypervisorError) in try LibxenHypervisor() }
        var options = options
        options.waitsForScript = scripts ?? (hypervisor.domain == .zero)
        // Where scripts are waited for there is an xl that clears up, too.
        options.removesDirectories = !options.waitsForScript && hypervisor.domain != .zero
        complain("blkback: store \(hypervisor.storePath), \(GrantLimits.read())")
        try serve(hypervisor, options)
    }

    private static func serve<H: Hypervisor>(_ hypervisor: H, _ options: BlockBackendOptions) throws(Failure) {
        let openDisk = DiskOpening(direct: options.direct)
        let service = BlockBackendService(hypervisor: hypervisor, options: options, openDisk: openDisk.open) { line in
            complain("blkback: \(line)")
        } ready: {
            complain("blkback: serving domain \(hypervisor.domain)'s \(options.kind)")
            ServiceManager.tell("READY=1")
        }
        try Signals.onTermination {
            ServiceManager.tell("STOPPING=1")
            service.stop()
        }
        do { try service.run() } catch { throw Failure("blkback: \(error)") }
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
            for listing in try devices.list(of: domain) {
                try devices.remove(listing.paths, force: true, milliseconds: 2000)
            }
            try DomainDirectories(store: store).remove(domain)
        } catch { first = Failure("\(error)") }
        do { try Rooms.destroyDomain(domain, in: directory) } catch { first = first ?? error }
        if let first { throw first }
    }
}
