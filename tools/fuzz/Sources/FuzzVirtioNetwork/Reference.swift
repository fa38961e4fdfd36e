// The rules of virtio 1.2, 5.1.6, from bytes: once more, and not from the same hand.

import Packets
import VirtioModel
import VirtioRig
import VirtioWire

/// What a driver's frame is to a device.
enum ExpectedFrame: Equatable {
    case refused
    case frame(count: Int, FrameOffload)
}

/// - Parameter runs: a chain that the driver has shown.
func expected(_ runs: [SlowRun], _ features: VirtioFeatures) -> ExpectedFrame {
    typealias Network = VirtioFeatures.Network
    let total = runs.reduce(0) { $0 + $1.count }
    guard runs.allSatisfy({ !$0.isWritable }), runs.count <= 512, total >= 12 + 14, total <= 12 + 65535 + 18 else {
        return .refused
    }
    let head = gather(runs, count: 12, in: rig).map { Int($0) }
    func word(_ at: Int) -> Int { head[at] + 256 * head[at + 1] }
    let (needsChecksum, kind, count) = (head[0] % 2 == 1, head[1], Int(total) - 12)
    let (hint, size, start, field) = (word(2), word(4), word(6), word(8))
    var offload = FrameOffload()
    let hasChecksums = features.contains(Network.checksum)
    if needsChecksum {
        guard hasChecksums, start + field <= count - 2 else { return .refused }
        offload.checksum = .init(start: UInt16(start), field: UInt16(field))
    }
    switch kind {
    case 0: return .frame(count: count, offload)
    case 1 where hasChecksums && features.contains(Network.hostTSO4): break
    case 4 where hasChecksums && features.contains(Network.hostTSO6): break
    default: return .refused
    }
    guard needsChecksum, size != 0, size != 0xFFFF else { return .refused }
    var headers = hint
    if headers < start + field + 2 { headers = start + field + 2 }
    if headers > count { headers = count }
    if headers > 0xFFFF { headers = 0xFFFF }
    offload.segmentation = .init(type: kind == 1 ? .tcp4 : .tcp6, size: UInt16(size), headerCount: UInt16(headers))
    return .frame(count: count, offload)
}

/// What a driver is told of a device's frame; nil: it gets none.
/// - Parameter bytes: the frame; a checksum that the driver does not take is put into it.
func told(_ offload: FrameOffload, _ bytes: inout [UInt8], _ features: VirtioFeatures) -> [UInt8]? {
    typealias Network = VirtioFeatures.Network
    var header = [UInt8](repeating: 0, count: 10)
    func put(_ value: UInt16, _ at: Int) { (header[at], header[at + 1]) = (UInt8(value % 256), UInt8(value / 256)) }
    let takesBlank = features.contains(Network.guestChecksum)
    if let segmentation = offload.segmentation {
        let bit = segmentation.type == .tcp4 ? Network.guestTSO4 : Network.guestTSO6
        guard takesBlank, features.contains(bit), offload.checksum != nil else { return nil }
        header[1] = segmentation.type == .tcp4 ? 1 : 4
        put(segmentation.headerCount, 2)
        put(segmentation.size, 4)
    }
    guard let checksum = offload.checksum else {
        if offload.isValidated, takesBlank { header[0] = 2 }
        return header
    }
    guard !takesBlank else {
        header[0] = 1
        put(checksum.start, 6)
        put(checksum.field, 8)
        return header
    }
    let (start, field) = (Int(checksum.start), Int(checksum.start) + Int(checksum.field))
    guard field + 2 <= bytes.count else { return nil }
    var sum = 0
    var place = start
    while place < bytes.count {
        sum += Int(bytes[place]) * 256 + (place + 1 < bytes.count ? Int(bytes[place + 1]) : 0)
        place += 2
    }
    while sum > 0xFFFF { sum = sum % 0x10000 + sum / 0x10000 }
    let value = 0xFFFF - sum == 0 ? 0xFFFF : 0xFFFF - sum
    (bytes[field], bytes[field + 1]) = (UInt8(value / 256), UInt8(value % 256))
    return header
}
