// The tap of an interface's frontend. One that somebody else keeps outlives a frontend that is killed: what was made of
// it meanwhile, its name and its namespace too, is found and left as it is by the next.

import LinuxSystem
import NetworkDevices
import VifTaps
import XenBus

struct FrontendTap: Sendable {
    let tap: TapDevice
    /// Whether a predecessor of this process that was killed had it, and set it up.
    let isFound: Bool
    private let name: String
    private let device: DeviceID
    private let records: TapRecords

    /// Opens the tap `name`, or what has become of it since a predecessor had it.
    /// - Parameter directory: where that is written down.
    init(_ name: String, of device: DeviceID, in directory: String) throws(TapError) {
        (self.name, self.device) = (name, device)
        records = TapRecords(directory: directory, kind: DeviceKind("frontend-vif"))
        if let address = records.read(device).flatMap({ Self.address($0, as: name) }), let found = try? TapDevice(address) {
            (tap, isFound) = (found, true)
        } else {
            (tap, isFound) = (try TapDevice(name: name), false)
        }
    }

    private static func address(_ record: TapRecord, as name: String) -> TapAddress? {
        guard record.name == name, let number = record.namespace, let place = NamespaceFile.find(number) else { return nil }
        let index = record.index
        let current = try? place.run { HostInterface.name(of: index).flatMap { HostInterface.isTap($0) ? $0 : nil } }
        guard let current = current ?? nil else { return nil }
        return TapAddress(name: current, in: number == NamespaceFile.own ? nil : place, madeAs: name)
    }

    /// Writes down where it is, if that is news. Who may not write there goes on without.
    func note() {
        guard let place = tap.place, place.index != 0, let namespace = place.namespace ?? NamespaceFile.own else { return }
        var record = TapRecord(device: device, name: name, index: place.index, isOurs: false, isPlaced: true)
        record.namespace = namespace
        if records.read(device) != record { try? records.write(record) }
    }

    /// This process ends as it should.
    func forget() { records.remove(device) }
}
