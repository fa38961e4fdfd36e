// The services of a backend while they run: disks on one thread, interfaces on another, and those who look at them.

import BlockBackend
import CommandSupport
import DeviceState
import DeviceTrace
import DriverRuntime
import Hypervisor
import LinuxSystem
import NVMe
import NetworkBackend
import NetworkTrace
import RBD
import VifTaps
import XenBus

/// One life of a backend's services, from their start to the end, or to another program's beginning.
struct BackendServices<H: Hypervisor> {
    private let hypervisor: H
    private let work: BackendWork
    private let exports: VhostExports?
    /// Where `causeway status` and `causeway trace` look for this process.
    private let runDirectory: String
    private let disks: BlockBackendService<H>
    private let interfaces: NetworkBackendService<H>
    private let taps: TapOpener
    private let readiness: Readiness

    /// - Parameters:
    ///   - exports: another way to the devices; nil: there is none.
    ///   - scriptStore: the store's socket, for scripts that are called from here; nil: somebody else calls them.
    init(
        _ hypervisor: H, _ work: BackendWork, _ exports: VhostExports?, _ runDirectory: String, _ scriptStore: String?
    ) {
        (self.hypervisor, self.work, self.exports, self.runDirectory) = (hypervisor, work, exports, runDirectory)
        let readiness = Readiness((work.servesDisks ? 1 : 0) + (work.servesInterfaces ? 1 : 0))
        self.readiness = readiness
        let openDisk = HostDiskOpener(
            direct: work.disks.direct, reconnectDelayMilliseconds: work.disks.reconnectDelayMilliseconds,
            keeper: work.controllers, hypervisor: hypervisor,
            // By the name of the claim that only one process at a time has.
            lockRecord: RBDLockRecord(directory: runDirectory, name: "backend-\(hypervisor.domain)-\(work.disks.kind)"),
            takesOver: work.takesOver, time: .system
        ) { complain("blkback: \($0)") }
        disks = BlockBackendService(
            hypervisor: hypervisor, options: work.disks, openDisk: openDisk.open, exporter: exports.map(VhostExports.Disks.init)
        ) { line in
            complain("blkback: \(line)")
        } ready: {
            work.saySomethingIsServed("blkback: serving domain \(hypervisor.domain)'s \(work.disks.kind)", isFirst: true)
            readiness.count()
        }
        let journals = work.interfaces.journalDirectory
        let records = TapRecords(directory: journals ?? runDirectory, kind: work.interfaces.kind)
        let taps = TapOpener(
            records: records, keepsTaps: journals != nil, scriptStore: scriptStore, time: .system, notes: { note("netback: \($0)") }
        ) {
            complain("netback: \($0)")
        }
        self.taps = taps
        interfaces = NetworkBackendService(
            hypervisor: hypervisor, options: work.interfaces, random: .system,
            openDevice: work.memoryVifs ? MemoryInterfaces.open : Self.opener(taps, exports),
            exporter: exports.map(VhostExports.Interfaces.init), removeLeftovers: taps.removeLeftovers
        ) { line in
            complain("netback: \(line)")
        } ready: {
            work.saySomethingIsServed(
                "netback: serving domain \(hypervisor.domain)'s \(work.interfaces.kind)", isFirst: !work.servesDisks)
            readiness.count()
        }
    }

    /// Goes on with a predecessor's taps and cables, where they have come along.
    private static func opener(_ taps: TapOpener, _ exports: VhostExports?) -> NetworkOpener {
        { settings throws(DeviceOpenFailure) in
            let name = settings.peer.map { "cable to \($0)" } ?? settings.interface
            guard let lifeline = exports?.lifeline(of: settings.device, named: name) else { return try taps.open(settings) }
            do throws(DeviceOpenFailure) { return try taps.open(settings, resuming: lifeline) } catch {
                complain("netback: vif \(settings.device): \(error); it is opened anew")
                return try taps.open(settings)
            }
        }
    }

    /// Serves until the process is asked to end, which is nil, or to become another program.
    /// - Parameter report: who waits for the services, and for front ends that are gone on with.
    func run(_ ending: BackendEnding, _ report: UpgradeReport) throws(Failure) -> BackendUpgrade.Order? {
        defer { taps.finish() }
        let watching = watch()
        defer { watching.close() }
        let tracing = serveTraces()
        defer { tracing?.stop() }
        let (disks, interfaces, exports, work) = (disks, interfaces, exports, work)
        let watchdog = Watchdog { disks.reactors + interfaces.reactors }
        defer { watchdog?.close() }
        readiness.then {
            let living = disks.status.map { VhostExports.Key(kind: .block, device: $0.device) }
            exports?.settle(but: Set(living + interfaces.status.map { .init(kind: .network, device: $0.device) }))
            if exports == nil, let keeper = work.keeper {
                report.whenAllBegan {
                    keeper.settle()
                    keeper.ready([:])
                }
            }
            report.began()
        }
        let stop: @Sendable () -> Void = {
            disks.stop()
            interfaces.stop()
        }
        ending.serving(stop)
        let upgrade = BackendUpgrade(in: runDirectory, keepsJournals: work.disks.journalDirectory != nil) {
            if work.keeper != nil { NVMeControllers.leave() }
            // All at once: the pause is not to be the sum.
            exports?.askToHold()
            stop()
        }
        do throws(Failure) { try runAll() } catch {
            _ = upgrade?.close()
            throw error
        }
        let order = upgrade?.close()
        return ending.hasBegun ? nil : order
    }

    /// Lets `causeway status`, `top`, `metrics` and `device` look at a backend's devices.
    private func watch() -> WatchSockets {
        let (disks, interfaces, exports) = (disks, interfaces, exports)
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

    /// Runs what there is until it is stopped.
    private func runAll() throws(Failure) {
        guard work.servesDisks else {
            do { try interfaces.run() } catch { throw failure("netback", error) }
            return
        }
        let (interfaces, hypervisor) = (interfaces, hypervisor)
        var thread: WorkerThread?
        // What fails both is said once.
        let said = Monitor<Set<String>>([])
        if work.servesInterfaces {
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
        defer { interfaces.stop() }
        do { try disks.run() } catch {
            throw said.change { $0.insert("\(error)").inserted } ? failure("blkback", error) : .silent(1)
        }
    }

    /// What ended a service; where nothing is below it any more, that.
    private func failure(_ service: String, _ error: BackendError) -> Failure {
        if case .never(let reason) = hypervisor.attemptStore() { return Failure("backend: \(reason)") }
        return Failure("\(service): \(error)")
    }

    /// Where `causeway trace` finds this backend. A backend that cannot have it serves all the same.
    private func serveTraces() -> TraceService? {
        let path = TraceService.path(in: runDirectory, backend: hypervisor.domain)
        let subjects = TraceRegistries([disks.traceSubjects, interfaces.traceSubjects])
        do throws(Errno) { return try TraceService(path: path, subjects: subjects, time: .system) } catch {
            complain("backend: \(path): \(error): `causeway trace` will not find this backend")
            return nil
        }
    }
}
