// Which taps this backend has made that outlive it: a file each, beside the journals. A successor knows them for its own by these, and
// removes those whose guests went while no backend was there.

import Glibc
import LinuxSystem
import XenBus
import XenWire

/// A tap that was made for an interface.
struct TapRecord: Equatable {
    let device: DeviceID
    /// What it was called when it was made. A hot-plug script may rename it.
    var name: String
    /// Its number, which stays; 0 while it is being made.
    var index: UInt32
    /// Whether the script has put it in its place.
    var isPlaced = false
    /// The script that was called with `online`; nil: none.
    var script: String?

    /// What it is called now; nil if it is not there.
    var currentName: String? {
        if index == 0 { return unsafe if_nametoindex(name) == 0 ? nil : name }
        var bytes = [CChar](repeating: 0, count: Int(IF_NAMESIZE))
        guard unsafe if_indextoname(index, &bytes) != nil else { return nil }
        return String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// The records in one directory.
struct TapRecords: Sendable {
    let directory: String
    let kind: DeviceKind

    private func file(_ device: DeviceID) -> String { "\(directory)/\(kind)-\(device.frontend)-\(device.number).tap" }

    /// The record of an interface's tap; nil if there is none, or it makes no sense.
    func read(_ device: DeviceID) -> TapRecord? {
        guard let text = ProcessFile.read(file(device)) else { return nil }
        // The script last: a path may hold anything.
        let parts = text.split(separator: "\n", maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count == 4, !parts[0].isEmpty, let index = UInt32(parts[1]), let isPlaced = UInt8(parts[2]) else { return nil }
        return TapRecord(
            device: device, name: String(parts[0]), index: index, isPlaced: isPlaced == 1,
            script: parts[3].isEmpty ? nil : String(parts[3]))
    }

    /// Writes a record: the whole of it, or what was there before stays.
    func write(_ record: TapRecord) throws(Errno) {
        let text = Array("\(record.name)\n\(record.index)\n\(record.isPlaced ? 1 : 0)\n\(record.script ?? "")".utf8)
        let (name, new) = (file(record.device), file(record.device) + ".new")
        let descriptor = try Descriptor.open(new, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW)
        let count = unsafe text.withUnsafeBytes { unsafe Glibc.write(descriptor.rawValue, $0.baseAddress, $0.count) }
        guard count == text.count else { throw count < 0 ? Errno.current : Errno(ENOSPC) }
        if unsafe rename(new, name) != 0 { throw Errno.current }
    }

    func remove(_ device: DeviceID) { unsafe unlink(file(device)) }

    /// Every record there is.
    var all: [TapRecord] {
        guard let entries = unsafe opendir(directory) else { return [] }
        defer { unsafe closedir(entries) }
        var found: [TapRecord] = []
        while let entry = unsafe readdir(entries) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { place in
                unsafe place.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            guard name.hasPrefix("\(kind)-"), name.hasSuffix(".tap") else { continue }
            let parts = name.dropFirst("\(kind)-".utf8.count).dropLast(".tap".utf8.count).split(
                separator: "-", omittingEmptySubsequences: false)
            guard parts.count == 2, let frontend = UInt16(parts[0]), let number = UInt32(parts[1]) else { continue }
            if let record = read(DeviceID(frontend: DomainID(frontend), number: number)) { found.append(record) }
        }
        return found
    }
}
