// What the backend gives a vif on this host's side: a tap, with the manners of Xen's vif scripts.

import DriverRuntime
import LinuxSystem
import NetworkBackend
import NetworkDevices
import XenBus

/// Opens taps for a `NetworkBackendService`, whose `openDevice` and `removeLeftovers` are this type's `open` and
/// `removeLeftovers`.
///
///     let taps = TapOpener(records: TapRecords(directory: "/run/mine", kind: .network), time: .system) { print($0) }
///     let service = NetworkBackendService(
///         hypervisor: hypervisor, options: options, random: .system, openDevice: taps.open,
///         removeLeftovers: taps.removeLeftovers)
///     try service.run()
///     taps.finish()
///
/// With records, a tap that was made here stays in its bridge when this process is killed; the next process's
/// `TapOpener` knows it for its own, and removes those whose interfaces went meanwhile. A tap that somebody else keeps
/// is joined, and stays when its interface goes. Either is put in its place (address, MTU, bridge, up) once: what an
/// administrator changes afterwards, its name too, is as it was when a successor goes on.
public struct TapOpener: Sendable {
    private let records: TapRecords?
    private let keepsTaps: Bool
    private let storeSocket: String?
    private let time: any TimeSource
    private let log: @Sendable (String) -> Void
    private let note: @Sendable (String) -> Void
    /// Cables between interfaces.
    private let links = NetworkLinks()
    private let lanes = TapLanes()
    private let watch: TapWatch

    /// - Parameters:
    ///   - records: of taps that are there when this process has ended unexpectedly, so that its successor finds them
    ///     and changes nothing about them; nil: none.
    ///   - keepsTaps: whether taps that are made here stay for a successor; else only those that somebody else keeps
    ///     do.
    ///   - scriptStore: the store's socket, for scripts that are called from here; nil: somebody else calls them.
    ///   - time: what scripts' time limits go by.
    ///   - notes: is told of what was done unasked; nil: `log` is.
    ///   - log: is told, one line at a time and from any thread, of what went wrong
    ///     without ending anything.
    public init(
        records: TapRecords? = nil, keepsTaps: Bool = true, scriptStore: String? = nil, time: some TimeSource,
        notes: (@Sendable (String) -> Void)? = nil, log: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        self.time = time
        self.records = records
        self.keepsTaps = keepsTaps
        storeSocket = scriptStore
        self.log = log
        let note = notes ?? log
        self.note = note
        watch = TapWatch { device, tap in Self.changed(device, tap, records, note, log) }
    }

    /// Somebody did something to a tap that is in use.
    private static func changed(
        _ device: DeviceID, _ tap: TapDevice, _ records: TapRecords?, _ note: (String) -> Void, _ log: (String) -> Void
    ) {
        guard let place = tap.place else { return tap.look() }
        if var record = records?.read(device), record.move(to: place) {
            let there = place.namespace.map { "into network namespace \($0)" } ?? "back"
            note("tap \(tap.name): moved \(there), as \(place.name)")
            do throws(Errno) { try records?.write(record) } catch { log("\(records?.directory ?? ""): \(error)") }
        }
        if let change = try? tap.keepMTULimit() { note("tap \(place.name): \(change): more has no way") }
    }

    /// Opens the vif's tap, or joins the one that is there; names what could not be done. With a script it takes a
    /// while.
    @Sendable public func open(_ settings: NetworkSettings) throws(DeviceOpenFailure) -> any NetworkDevice {
        try open(settings, resuming: nil)
    }

    /// The same for one that a predecessor of this process had: it is where it was put.
    /// - Parameter lifeline: see `NetworkDevice`; nil: it is opened anew.
    public func open(
        _ settings: NetworkSettings, resuming lifeline: [Descriptor]?
    ) throws(DeviceOpenFailure) -> any NetworkDevice {
        if let peer = settings.peer {
            do throws(Errno) {
                return try links.end(of: "\(settings.device)", to: "\(peer)", mtu: settings.mtu, resuming: lifeline)
            } catch {
                throw DeviceOpenFailure(
                    error,
                    error == .tooManySymbolicLinkLevels ? "peer: an interface cannot be its own" : "cable to \(peer): \(error)")
            }
        }
        let name = settings.interface
        let script = settings.isPlacedByScript ? nil : storeSocket.flatMap { VifScript(settings, storeSocket: $0) }
        let tap = try VifTap(name, on: lanes, isSlow: script != nil && lifeline == nil) { () throws(DeviceOpenFailure) in
            guard let lifeline else { return try make(settings, script) }
            do throws(TapError) { return try TapDevice(name: name, resuming: lifeline) } catch {
                throw DeviceOpenFailure(.ioError, "\(error)")
            }
        } undo: { tap in
            if tap != nil, let script {
                do throws(VifScriptError) { try script.run("offline", time: time) } catch { log("tap \(name): \(error)") }
            }
            if let tap { watch.forget(settings.device, tap) }
            // Without a record nothing was made to stay.
            if let record = records?.read(settings.device) {
                if record.isOurs { tap?.retire() }
                records?.remove(settings.device)
            }
            tap?.endUse()
        }
        // Without it all is well until somebody moves a tap.
        do throws(Errno) { try watch.follow(settings.device, tap) } catch {
            log("tap \(name): its changes are not heard of: \(error)")
        }
        return tap
    }

    private func make(_ settings: NetworkSettings, _ script: VifScript?) throws(DeviceOpenFailure) -> TapDevice {
        let (claimed, found) = try claim(settings, script)
        var record = claimed
        let isOurs = record?.isOurs == true
        let address = found ?? TapAddress(name: settings.interface)
        let name = address.name
        let tap: TapDevice
        do throws(TapError) { tap = try TapDevice(address, outlives: isOurs) } catch {
            // A predecessor's stays for the next attempt. Of one that was written for this attempt the next device of
            // this number, which may be called otherwise, must know nothing.
            if found == nil { records?.remove(settings.device) }
            throw DeviceOpenFailure(.ioError, "\(error)")
        }
        // What a predecessor has put in its place may have been moved since, by somebody who means it.
        if record?.isPlaced == true { return tap }
        do throws(DeviceOpenFailure) {
            if let place = tap.place { _ = record?.move(to: place) }
            note(record)
            try TapPlacing.place(settings, name, log: log)
            do throws(VifScriptError) { try script?.run("online", time: time) } catch {
                throw DeviceOpenFailure(.ioError, "tap \(name): \(error)")
            }
            record?.isPlaced = true
            note(record)
            return tap
        } catch {
            if isOurs { tap.retire() }
            if record != nil { records?.remove(settings.device) }
            throw error
        }
    }

    /// The record of a tap that a successor will find: one that is about to be made, that a predecessor made, or that
    /// somebody else keeps. Nil where nothing is recorded. With it, where the tap is if it is there.
    private func claim(
        _ settings: NetworkSettings, _ script: VifScript?
    ) throws(DeviceOpenFailure) -> (TapRecord?, TapAddress?) {
        guard let records else { return (nil, nil) }
        let device = settings.device
        var before = records.read(device)
        // One that was taken away and attached anew while no backend was there has the number of the other, no more.
        if let other = before, other.name != settings.interface {
            records.remove(device)
            clear(other) {}
            before = nil
        }
        if let before, before.index != 0, before.script == script?.path {
            let address: TapAddress?
            // It is not made a second time where this process may not go to it.
            do throws(NamespaceError) { address = try before.address() } catch {
                throw DeviceOpenFailure(
                    error.reason,
                    "tap \(before.name) is in network namespace \(before.namespace ?? 0), where it was moved to: \(error); "
                        + "move it back, or let the backend go there (CAP_SYS_ADMIN)")
            }
            if let address {
                var record = before
                record.namespace = address.namespace?.number
                if record != before { note(record) }
                return (record, address)
            }
        }
        let name = settings.interface
        let index = HostInterface.index(of: name) ?? 0
        let isOurs = index == 0 || before.map { $0.isOurs && ($0.index == index || $0.index == 0 && $0.name == name) } ?? false
        if isOurs, !keepsTaps { return (nil, nil) }
        let record = TapRecord(device: device, name: name, index: index, isOurs: isOurs, script: script?.path)
        do throws(Errno) { try records.write(record) } catch {
            // It works all the same; a successor only does not know what was done here.
            log("\(records.directory): \(error): tap \(name) will not stay as it is for a successor")
            return (nil, nil)
        }
        return (record, nil)
    }

    private func note(_ record: TapRecord?) {
        guard let records, let record else { return }
        do throws(Errno) { try records.write(record) } catch { log("\(records.directory): \(error)") }
    }

    /// Removes taps that a predecessor made for interfaces that are no more.
    @Sendable public func removeLeftovers(but living: Set<DeviceID>) {
        guard let records else { return }
        let all = records.all
        let kept = Set(all.filter { living.contains($0.device) }.compactMap(\.currentName))
        for record in all where !living.contains(record.device) {
            clear(record, but: kept) { records.remove(record.device) }
        }
    }

    /// Takes a tap out of its place whose interface is no more, and removes it if it was made here; tells when that is
    /// done.
    /// - Parameter kept: names of taps that others have.
    private func clear(_ record: TapRecord, but kept: Set<String> = [], _ done: @escaping @Sendable () -> Void) {
        let found: TapAddress?
        do throws(NamespaceError) { found = try record.address() } catch {
            log(
                "tap \(record.name): vif \(record.device) is no more; it stays in network namespace \(record.namespace ?? 0): \(error)"
            )
            return done()
        }
        guard let address = found, address.namespace != nil || !kept.contains(address.name) else { return done() }
        let name = address.name
        lanes.run(record.name) {
            if let path = record.script, let storeSocket {
                let script = VifScript(path, for: name, of: record.device, storeSocket: storeSocket)
                do throws(VifScriptError) { try script.run("offline", time: time) } catch {
                    log("tap \(name): \(error)")
                }
            }
            defer { done() }
            guard record.isOurs else { return }
            do throws(TapError) { try TapDevice(address).retire() } catch { return log("\(error)") }
            note("tap \(name): vif \(record.device) is no more; removed")
        }
    }

    /// Waits for scripts that still run, so that nothing is half undone when this process ends.
    public func finish() { lanes.finish(seconds: VifScript.seconds + 2, time) }
}
