// Which taps this backend serves that outlive it: a file each, beside the journals. By these a successor knows its own,
// removes those whose guests went while no backend was there, and leaves the settings of all others as they are.

import LinuxSystem
import NetworkDevices
import XenBus
import XenTypes

/// A tap that serves an interface.
public struct TapRecord: Equatable, Sendable {
    /// The interface's.
    public let device: DeviceID
    /// What it was called when it was made or joined. A hot-plug script or an administrator may rename it.
    public var name: String
    /// Its number, which stays as long as it is where it is; 0 while it is being made.
    public var index: UInt32
    /// The number of the network namespace that somebody has moved it to; nil: it is where it was made.
    public var namespace: UInt64?
    /// Whether it was made here and goes with its interface; else somebody else keeps it.
    public var isOurs: Bool
    /// Whether it has been put in its place, by the script too, if there is one.
    public var isPlaced: Bool
    /// The script that was called with `online`; nil: none.
    public var script: String?

    /// A record of these.
    public init(device: DeviceID, name: String, index: UInt32, isOurs: Bool = true, isPlaced: Bool = false, script: String? = nil) {
        self.device = device
        self.name = name
        self.index = index
        self.isOurs = isOurs
        self.isPlaced = isPlaced
        self.script = script
    }

    /// What it is called now; nil if it is not there.
    public var currentName: String? { (try? address())?.name }

    /// Where it is now; nil if it is not there, or its namespace has ended. Fails if it is where this process may not
    /// go.
    package func address() throws(NamespaceError) -> TapAddress? {
        if let namespace {
            let index = index
            if let place = NamespaceFile.find(namespace), let current = try place.run({ HostInterface.name(of: index) }) {
                return TapAddress(name: current, in: place, madeAs: name)
            }
            return search()
        }
        if index == 0 { return HostInterface.index(of: name) == nil ? nil : TapAddress(name: name) }
        return HostInterface.name(of: index).map { TapAddress(name: $0, madeAs: name) } ?? search()
    }

    /// The tap in whichever namespace it was moved to while no backend was there to hear of it: it has kept its name
    /// and its number, and nobody uses it.
    private func search() -> TapAddress? {
        let (name, index) = (name, index)
        return NamespaceFile.first { place in
            let isThere = try? place.run {
                HostInterface.index(of: name) == index && HostInterface.isTap(name) && !TapDevice.isInUse(name)
            }
            return isThere == true ? TapAddress(name: name, in: place) : nil
        }
    }

    /// Notes where it is now; whether that is news.
    mutating func move(to place: TapPlace) -> Bool {
        guard place.index != 0, place.index != index || place.namespace != namespace else { return false }
        index = place.index
        namespace = place.namespace
        return true
    }
}

/// The records in one directory: `KIND-DOMAIN-NUMBER.tap`, five lines of text each.
public struct TapRecords: Sendable {
    /// Where they are: memory that outlives the process, and not the host (tmpfs).
    public let directory: String
    /// The directory below `backend/` whose interfaces they are of.
    public let kind: DeviceKind

    /// The records in `directory`, which is there, for a backend of `kind`.
    public init(directory: String, kind: DeviceKind) {
        self.directory = directory
        self.kind = kind
    }

    private func file(_ device: DeviceID) -> String { "\(directory)/\(kind)-\(device.frontend)-\(device.number).tap" }

    /// The record of an interface's tap; nil if there is none, or it makes no sense.
    public func read(_ device: DeviceID) -> TapRecord? {
        guard let text = FileSystem.text(of: file(device)) else { return nil }
        // The script last: a path may hold anything.
        let parts = text.split(separator: "\n", maxSplits: 4, omittingEmptySubsequences: false)
        guard parts.count == 5, !parts[0].isEmpty, let place = Self.place(parts[1]), let isOurs = UInt8(parts[2]),
            let isPlaced = UInt8(parts[3])
        else { return nil }
        var record = TapRecord(
            device: device, name: String(parts[0]), index: place.index, isOurs: isOurs == 1, isPlaced: isPlaced == 1,
            script: parts[4].isEmpty ? nil : String(parts[4]))
        record.namespace = place.namespace
        return record
    }

    /// `7`, or `7@4026532281` for one in another namespace.
    private static func place(_ text: Substring) -> (index: UInt32, namespace: UInt64?)? {
        let parts = text.split(separator: "@", omittingEmptySubsequences: false)
        guard let index = UInt32(parts[0]) else { return nil }
        if parts.count == 1 { return (index, nil) }
        guard parts.count == 2, let namespace = UInt64(parts[1]) else { return nil }
        return (index, namespace)
    }

    /// Writes a record: the whole of it, or what was there before stays.
    public func write(_ record: TapRecord) throws(Errno) {
        let place = "\(record.index)" + (record.namespace.map { "@\($0)" } ?? "")
        let text = "\(record.name)\n\(place)\n\(record.isOurs ? 1 : 0)\n\(record.isPlaced ? 1 : 0)\n\(record.script ?? "")"
        try FileSystem.replace(file(record.device), with: Array(text.utf8))
    }

    /// Removes an interface's record, if there is one.
    public func remove(_ device: DeviceID) { FileSystem.remove(file(device)) }

    /// Every record there is.
    public var all: [TapRecord] {
        FileSystem.names(in: directory).compactMap { name in
            guard name.hasPrefix("\(kind)-"), name.hasSuffix(".tap") else { return nil }
            let parts = name.dropFirst("\(kind)-".utf8.count).dropLast(".tap".utf8.count).split(
                separator: "-", omittingEmptySubsequences: false)
            guard parts.count == 2, let frontend = UInt16(parts[0]), let number = UInt32(parts[1]) else { return nil }
            return read(DeviceID(frontend: DomainID(frontend), number: number))
        }
    }
}
