// A vif's frames as a pcapng stream into a pipe, for whoever named the pipe in the vif's directory (`trace`). A reader that is slow loses
// frames and is told how many; the interface never waits for it. On the reactor's thread.

import DMA
import Glibc
import LinuxSystem
import Packets
import SharedMemory
import XenWire

/// Writes frames to one reader.
final class FrameTracer {
    private let pipe: Descriptor
    private let scratch: SharedRegion
    /// Bytes of blocks that the pipe had no room for yet.
    private var pending: [UInt8]
    private var dropped: UInt64 = 0
    /// The reader is gone.
    private(set) var isOver = false

    private static let most = 1 << 16

    /// Begins a section in the named pipe at `path`, for which there must be a reader.
    init(path: String, interface: String) throws(Errno) {
        pipe = try Descriptor.open(path, O_WRONLY | O_NONBLOCK)
        scratch = try SharedRegion(anonymous: Self.most)
        pending = CaptureBlock.section(application: "causeway") + CaptureBlock.interface(name: interface)
        flush()
    }

    /// Writes one frame, the first `byteCount` bytes of `segments`.
    func record(_ segments: Span<BusSegment>, byteCount: Int, on bus: MemoryBus, isInbound: Bool, comment: String) {
        flush()
        guard !isOver, pending.isEmpty else {
            dropped &+= 1
            return
        }
        let count = BusFrame.copyHead(segments, min(byteCount, Self.most), on: bus, to: scratch, at: 0)
        var now = timespec()
        _ = unsafe clock_gettime(CLOCK_REALTIME, &now)
        pending = CaptureBlock.packet(
            scratch.bytes(at: 0, count: count), time: UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec),
            originalCount: byteCount, isInbound: isInbound, comment: comment, dropped: dropped)
        dropped = 0
        flush()
    }

    private func flush() {
        while !pending.isEmpty, !isOver {
            let count = unsafe pending.withUnsafeBytes { unsafe write(pipe.rawValue, $0.baseAddress, $0.count) }
            if count > 0 {
                pending.removeFirst(count)
            } else if errno == EAGAIN {
                return
            } else if errno != EINTR {
                isOver = true
            }
        }
    }
}

/// Slots in words.
enum SlotText {
    /// A packet's slots on the transmit ring.
    static func transmit(_ packet: borrowing TransmitPacket, firstSlot: UInt32) -> String {
        var text = "tx slot \(firstSlot)"
        for (index, part) in packet.parts.enumerated() {
            text += index == 0 ? ":" : ";"
            text += " id \(part.id) gref \(part.reference.rawValue) offset \(part.offset) bytes \(part.byteCount)"
            guard index == 0 else { continue }
            text += " size \(packet.byteCount) flags \(flags(packet.flags))"
            if let segmentation = packet.segmentation { text += "; extra gso \(segmentation.type) size \(segmentation.size)" }
        }
        return text
    }

    private static func flags(_ flags: TransmitFlags) -> String {
        let names: [(TransmitFlags, String)] = [
            (.checksumBlank, "csum_blank"), (.dataValidated, "data_validated"), (.moreData, "more_data"), (.extraInfo, "extra_info"),
        ]
        let found = names.filter { flags.contains($0.0) }.map(\.1)
        return found.isEmpty ? "none" : found.joined(separator: "|")
    }
}
