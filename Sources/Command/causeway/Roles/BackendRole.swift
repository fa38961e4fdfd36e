// What a backend's process does: disks on one thread, interfaces on another.

import BlockBackend
import CommandSupport
import DriverRuntime
import Glibc
import Hypervisor
import Libxen
import LinuxSystem
import Loopback
import NetworkBackend
import NetworkTrace
import VifTaps
import XenTypes

enum BackendRole {
    /// Serves a domain's disks and interfaces until the process is asked to end.
    static func serve(in directory: RunDirectory, domain: DomainID, _ work: BackendWork) throws(Failure) {
        Signals.block(Signals.termination)
        let hypervisor = try refusing("backend") { () throws(HypervisorError) in
            try LoopbackHypervisor.connect(runDirectory: directory.path, domain: domain, time: .system)
        }
        try serve(
            hypervisor, work, runDirectory: directory.path,
            scriptStore: work.interfaces.waitsForScript ? nil : directory.storeSocket)
        hypervisor.disconnect()
    }

    /// Serves this domain's disks and interfaces on the Xen below, until the process is asked to end.
    /// - Parameter scripts: whether to wait for hot-plug scripts; nil: in dom0, where xl runs them.
    static func serveXen(_ given: BackendWork, scripts: Bool?, runDirectory: String) throws(Failure) {
        Signals.block(Signals.termination)
        // Before there are threads, and before anything of a guest's is looked at.
        let forInterfaces: [Capability] = given.servesInterfaces ? [.administerNetwork] : []
        do { try Privileges.keepOnly([.overrideFilePermissions, .lockMemory] + forInterfaces) } catch {
            throw Failure("backend: cannot give up capabilities: \(error)")
        }
        let hypervisor = try refusing("backend: --xen") { () throws(HypervisorError) in try LibxenHypervisor(time: .system) }
        var work = given
        let waits = scripts ?? (hypervisor.domain == .zero)
        work.waitForScripts(waits)
        // Where scripts are waited for there is an xl that clears up, too.
        work.removeDirectories(!waits && hypervisor.domain != .zero)
        if !work.isQuiet {
            complain("backend: user \(geteuid()), capabilities \(Privileges.summary)")
            complain("backend: store \(hypervisor.storePath), \(GrantLimits.read())")
        }
        try serve(hypervisor, work, runDirectory: runDirectory)
    }

    /// Serves until the process is asked to end; asked to become another program, it does that, or goes on if it
    /// cannot.
    private static func serve<H: Hypervisor>(
        _ hypervisor: H, _ given: BackendWork, runDirectory: String, scriptStore: String? = nil
    ) throws(Failure) {
        // On a Xen host nobody else makes it: there is no host's daemon.
        FileSystem.makeDirectory(runDirectory, mode: 0o700)
        let claims = try claim(given, hypervisor.domain, runDirectory)
        defer { withExtendedLifetime(claims) {} }
        let ending = BackendEnding()
        try onTermination { ending.end() }
        var work = given
        while let order = try serveOnce(hypervisor, work, ending, runDirectory, scriptStore) {
            BackendUpgrade.become(order)
            complain("backend: could not be upgraded, and goes on")
            work.upgradedFor = nil
        }
    }

    /// Disks on this thread, interfaces on another; both end together.
    /// - Parameter runDirectory: where `causeway status` and `causeway trace` look for this process.
    private static func serveOnce<H: Hypervisor>(
        _ hypervisor: H, _ work: BackendWork, _ ending: BackendEnding, _ runDirectory: String, _ scriptStore: String?
    ) throws(Failure) -> BackendUpgrade.Order? {
        let upgradedFor = work.upgradedFor
        let readiness = Readiness((work.servesDisks ? 1 : 0) + (work.servesInterfaces ? 1 : 0)) {
            if let upgradedFor { BackendUpgrade.done(upgradedFor) }
        }
        let openDisk = HostDiskOpener(
            direct: work.disks.direct, reconnectDelayMilliseconds: work.disks.reconnectDelayMilliseconds, time: .system
        ) { complain("blkback: \($0)") }
        let exports = try work.vhostDirectory.map { (path) throws(Failure) in
            try VhostExports(in: path, threads: work.disks.reactors, isQuiet: work.isQuiet)
        }
        defer { exports?.stop() }
        let disks = BlockBackendService(
            hypervisor: hypervisor, options: work.disks, openDisk: openDisk.open, exporter: exports.map(VhostExports.Disks.init)
        ) { line in
            complain("blkback: \(line)")
        } ready: {
            if !work.isQuiet { complain("blkback: serving domain \(hypervisor.domain)'s \(work.disks.kind)") }
            readiness.count()
        }
        let journals = work.interfaces.journalDirectory
        let records = TapRecords(directory: journals ?? runDirectory, kind: work.interfaces.kind)
        let taps = TapOpener(
            records: records, keepsTaps: journals != nil, scriptStore: scriptStore, time: .system, isQuiet: work.isQuiet
        ) {
            complain("netback: \($0)")
        }
        defer { taps.finish() }
        let interfaces = NetworkBackendService(
            hypervisor: hypervisor, options: work.interfaces,
            random: .system, openDevice: work.memoryVifs ? MemoryInterfaces.open : taps.open,
            exporter: exports.map(VhostExports.Interfaces.init),
            removeLeftovers: taps.removeLeftovers
        ) { line in
            complain("netback: \(line)")
        } ready: {
            if !work.isQuiet { complain("netback: serving domain \(hypervisor.domain)'s \(work.interfaces.kind)") }
            readiness.count()
        }
        let watching = watch(disks, interfaces, exports, runDirectory)
        defer { watching.close() }
        let tracing = work.servesInterfaces ? serveTraces(of: interfaces.traceSubjects, hypervisor.domain, runDirectory) : nil
        defer { tracing?.stop() }
        let stop: @Sendable () -> Void = {
            disks.stop()
            interfaces.stop()
        }
        ending.serving(stop)
        let upgrade = BackendUpgrade(in: runDirectory, keepsJournals: work.disks.journalDirectory != nil, stop: stop)
        do throws(Failure) {
            try run(work.servesDisks ? disks : nil, work.servesInterfaces ? interfaces : nil, on: hypervisor)
        } catch {
            _ = upgrade?.close()
            throw error
        }
        let order = upgrade?.close()
        return ending.hasBegun ? nil : order
    }

    /// Lets `causeway status`, `top`, `metrics` and `device` look at a backend's devices.
    private static func watch<H: Hypervisor>(
        _ disks: BlockBackendService<H>, _ interfaces: NetworkBackendService<H>, _ exports: VhostExports?, _ runDirectory: String
    ) -> WatchSockets {
        let carried = CarriedCounters()
        let ofDisks: @Sendable () -> [StatusLine] = { DeviceStatus.lines(disks.status) }
        let ofInterfaces: @Sendable () -> [StatusLine] = { DeviceStatus.lines(interfaces.status) }
        let status = StatusSocket(in: runDirectory) { carried.added(to: ofDisks() + ofInterfaces()) }
        if status == nil { complain("backend: \(runDirectory): no socket can be made there for status, top and metrics") }
        let control = DeviceSocket(in: runDirectory) {
            disks.controlled { carried.counters(of: DeviceSubject(kind: "vbd", device: "\($0)").text, ofDisks) }
                + interfaces.controlled { carried.counters(of: DeviceSubject(kind: "vif", device: "\($0)").text, ofInterfaces) }
                + (exports?.controlled ?? [])
        }
        if control == nil { complain("backend: \(runDirectory): no socket can be made there for `causeway device`") }
        return WatchSockets(status: status, control: control)
    }

    /// Where a backend's devices are looked at.
    private struct WatchSockets {
        let status: StatusSocket?
        let control: DeviceSocket?

        func close() {
            control?.close()
            status?.close()
        }
    }

    /// What this process alone serves from now on: two backends would take the same devices from each other, back and
    /// forth.
    private static func claim(_ work: BackendWork, _ domain: DomainID, _ runDirectory: String) throws(Failure) -> [FileClaim] {
        var claims: [FileClaim] = []
        let kinds = (work.servesDisks ? [work.disks.kind] : []) + (work.servesInterfaces ? [work.interfaces.kind] : [])
        for kind in kinds {
            // A predecessor may be on its last steps.
            do throws(ClaimError) {
                claims.append(try FileClaim("\(runDirectory)/backend-\(domain)-\(kind).lock", patience: 1000, time: SystemTime()))
            } catch {
                // Who may not write there may not share the directory with another backend either.
                if case .taken(let holder) = error {
                    throw Failure("backend: domain \(domain)'s \(kind) is served already, by \(holder)")
                }
            }
        }
        return claims
    }

    /// Runs what there is until it is stopped.
    private static func run<H: Hypervisor>(
        _ disks: BlockBackendService<H>?, _ interfaces: NetworkBackendService<H>?, on hypervisor: H
    ) throws(Failure) {
        guard let disks else {
            do { try interfaces?.run() } catch { throw failure("netback", error, hypervisor) }
            return
        }
        var thread: WorkerThread?
        // What fails both is said once.
        let said = Monitor<Set<String>>([])
        if let interfaces {
            do {
                thread = try WorkerThread(name: "netback") {
                    do throws(BackendError) { try interfaces.run() } catch {
                        // Of a host that is gone the disks' thread tells.
                        if case .never = hypervisor.attemptStore() { return }
                        if said.change({ $0.insert("\(error)").inserted }) { complain("netback: \(error)") }
                    }
                }
            } catch { throw Failure("netback: cannot start a thread: \(error)") }
        }
        defer { thread?.join() }
        defer { interfaces?.stop() }
        do { try disks.run() } catch {
            throw said.change { $0.insert("\(error)").inserted } ? failure("blkback", error, hypervisor) : .silent(1)
        }
    }

    /// What ended a service; where nothing is below it any more, that.
    private static func failure(_ service: String, _ error: BackendError, _ hypervisor: any Hypervisor) -> Failure {
        if case .never(let reason) = hypervisor.attemptStore() { return Failure("backend: \(reason)") }
        return Failure("\(service): \(error)")
    }

    /// Where `causeway trace` finds this backend. A backend that cannot have it serves all the same.
    private static func serveTraces(
        of subjects: any TraceSubjects, _ domain: DomainID, _ runDirectory: String
    ) -> TraceService? {
        let path = TraceService.path(in: runDirectory, backend: domain)
        do throws(Errno) { return try TraceService(path: path, subjects: subjects, time: .system) } catch {
            complain("netback: \(path): \(error): `causeway trace` will not find this backend")
            return nil
        }
    }
}
