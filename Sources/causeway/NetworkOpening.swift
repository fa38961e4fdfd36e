// What the backend gives a vif on this host's side: a tap, with the manners of Xen's vif scripts.

import DriverSupport
import Glibc
import HostDevices
import LinuxSystem
import NetworkBackend
import XenBus
import XenWire

/// Opens taps.
struct NetworkOpening: Sendable {
    /// Of taps that stay when this process ends unexpectedly, so that its successor finds them in their bridges; nil: none does.
    let records: TapRecords?
    /// The store's socket, for scripts that are called here; nil: somebody else calls them.
    let storeSocket: String?
    /// Cables between interfaces.
    private let links = NetworkLinks()
    private let lanes = TapLanes()

    init(records: TapRecords?, storeSocket: String?) {
        self.records = records
        self.storeSocket = storeSocket
    }

    /// Devices without an interface, by the vif's name: `null` takes every frame and has none, `frames64` has one of 64 bytes whenever it is
    /// asked. For benchmarks.
    @Sendable static func openMemory(_ settings: NetworkSettings) throws(DeviceOpenFailure) -> any NetworkDevice {
        let name = settings.interface
        if name == "null" { return NullNetwork() }
        guard name.hasPrefix("frames"), let count = Int(name.dropFirst("frames".count)), (14...65535).contains(count) else {
            throw DeviceOpenFailure(number: ENODEV, "\(name): neither null nor frames and a size")
        }
        do throws(Errno) { return try EndlessNetwork(byteCount: count) } catch {
            throw DeviceOpenFailure(number: error.rawValue, "\(name): \(error)")
        }
    }

    /// Opens the vif's tap, or joins the one that is there; names what could not be done. With a script it takes a while.
    @Sendable func open(_ settings: NetworkSettings) throws(DeviceOpenFailure) -> any NetworkDevice {
        if let peer = settings.peer {
            do throws(Errno) { return try links.end(of: "\(settings.device)", to: "\(peer)", mtu: settings.mtu) } catch {
                throw DeviceOpenFailure(
                    number: error.rawValue,
                    error.rawValue == ELOOP ? "peer: an interface cannot be its own" : "cable to \(peer): \(error)")
            }
        }
        let name = settings.interface
        let script = settings.isPlacedByScript ? nil : storeSocket.flatMap { VifScript(settings, storeSocket: $0) }
        return try VifTap(name, on: lanes, isSlow: script != nil) { () throws(DeviceOpenFailure) in
            try make(settings, script)
        } undo: { tap in
            if tap != nil, let script {
                do throws(Failure) { try script.run("offline") } catch { complain("netback: tap \(name): \(error.message ?? "")") }
            }
            // Without a record nothing was made to stay, or somebody else keeps it.
            guard records?.read(settings.device) != nil else { return }
            tap?.retire()
            records?.remove(settings.device)
        }
    }

    private func make(_ settings: NetworkSettings, _ script: VifScript?) throws(DeviceOpenFailure) -> TapDevice {
        let name = settings.interface
        var record = claim(settings.device, name, script)
        let tap: TapDevice
        do throws(DeviceError) { tap = try TapDevice(name: name, outlives: record != nil) } catch {
            if record?.index == 0 { records?.remove(settings.device) }
            throw DeviceOpenFailure(number: EIO, "\(error)")
        }
        let isPlaced = record?.isPlaced == true
        do throws(DeviceOpenFailure) {
            if record != nil { record?.index = unsafe if_nametoindex(name) }
            note(record)
            try place(settings)
            guard let script, !isPlaced else { return tap }
            do throws(Failure) { try script.run("online") } catch {
                throw DeviceOpenFailure(number: EIO, "tap \(name): \(error.message ?? "")")
            }
            record?.isPlaced = true
            note(record)
            return tap
        } catch {
            if record != nil {
                tap.retire()
                records?.remove(settings.device)
            }
            throw error
        }
    }

    /// The record of a tap that is to be ours: one that is about to be made, or that a predecessor made. Nil for one that somebody else
    /// keeps, which is joined and stays as it is.
    private func claim(_ device: DeviceID, _ name: String, _ script: VifScript?) -> TapRecord? {
        guard let records else { return nil }
        let index = unsafe if_nametoindex(name)
        let before = records.read(device)
        var record = TapRecord(device: device, name: name, index: index, script: script?.path)
        if index != 0 {
            guard let before, before.index == index || before.index == 0 && before.name == name else { return nil }
            record.isPlaced = before.isPlaced && before.script == script?.path
        }
        do throws(Errno) { try records.write(record) } catch {
            // It works all the same; it only does not outlive this process.
            complain("netback: \(records.directory): \(error): tap \(name) will not stay for a successor")
            return nil
        }
        return record
    }

    private func note(_ record: TapRecord?) {
        guard let records, let record else { return }
        do throws(Errno) { try records.write(record) } catch { complain("netback: \(records.directory): \(error)") }
    }

    /// The interface's address, size, bridge, and up.
    private func place(_ settings: NetworkSettings) throws(DeviceOpenFailure) {
        let name = settings.interface
        // Down first: a bridge must not see another address than the one that no bridge adopts (pv-protocols item 43).
        try Self.doing("tap \(name): its address") { () throws(Errno) in try HostInterface.setAddress(name, .backend) }
        try Self.doing("tap \(name): mtu \(settings.mtu)") { () throws(Errno) in try HostInterface.setMTU(name, settings.mtu) }
        if settings.isPlacedByScript { return }
        if let bridge = settings.bridge {
            try Self.doing("tap \(name): bridge \(bridge)") { () throws(Errno) in try HostInterface.join(name, bridge: bridge) }
        }
        try Self.doing("tap \(name): up") { () throws(Errno) in try HostInterface.setUp(name) }
    }

    private static func doing(_ what: String, _ body: () throws(Errno) -> Void) throws(DeviceOpenFailure) {
        do throws(Errno) { try body() } catch { throw DeviceOpenFailure(number: error.rawValue, "\(what): \(error)") }
    }

    /// Removes taps that a predecessor made for interfaces that are no more.
    @Sendable func removeLeftovers(but living: Set<DeviceID>) {
        guard let records else { return }
        let all = records.all
        let kept = Set(all.filter { living.contains($0.device) }.compactMap(\.currentName))
        for record in all where !living.contains(record.device) {
            guard let name = record.currentName, !kept.contains(name) else {
                records.remove(record.device)
                continue
            }
            lanes.run(record.name) {
                if let path = record.script, let storeSocket {
                    let script = VifScript(path, for: name, of: record.device, storeSocket: storeSocket)
                    do throws(Failure) { try script.run("offline") } catch {
                        complain("netback: tap \(name): \(error.message ?? "")")
                    }
                }
                do throws(DeviceError) { try TapDevice(name: name).retire() } catch { return complain("netback: \(error)") }
                records.remove(record.device)
                complain("netback: tap \(name): vif \(record.device) is no more; removed")
            }
        }
    }

    /// Waits for scripts that still run, so that nothing is half undone when this process ends.
    func finish() { lanes.finish(seconds: VifScript.seconds + 2) }
}
