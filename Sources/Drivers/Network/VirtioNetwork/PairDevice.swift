// The way to the network that the two rings of a pair share: open as long as one of them is enabled. On the pair's
// reactor.

import DMA
import LinuxSystem
import NetworkDevices
import Packets
import SharedMemory

/// One pair's queue of the device.
final class PairDevice: @unchecked Sendable {
    /// The addresses of both rings' memory.
    let bus = MemoryBus()
    private let device: any NetworkDevice
    private var queue: (any NetworkDeviceQueue)?
    private var users = 0
    /// The rings are stopped for a successor: the queue stays open, and what comes waits in it.
    private var isHeld = false

    init(_ device: any NetworkDevice) { self.device = device }

    /// One more user.
    func open() throws(Errno) -> any NetworkDeviceQueue {
        let open: any NetworkDeviceQueue
        if let queue { open = queue } else { open = try device.openQueue(bus: bus) }
        queue = open
        users += 1
        return open
    }

    /// One user fewer; the last one closes the queue.
    func close() {
        users -= 1
        closeIfUnused()
    }

    /// Keeps the queue from here on, whoever closes it, until it is released.
    func hold() { isHeld = true }

    /// Keeps it no longer than it has users.
    func release() {
        isHeld = false
        closeIfUnused()
    }

    private func closeIfUnused() {
        guard users == 0, !isHeld else { return }
        queue?.close()
        queue = nil
    }

    /// Tells the network where an address is: a request for its own (RARP), as QEMU's sender has it.
    func announce(_ address: MACAddress) throws(Errno) {
        let queue = try open()
        defer { close() }
        let frame = AnnouncementFrame(address).bytes
        let region = try SharedRegion(anonymous: SharedRegion.pageSize)
        region.write(frame, at: 0)
        let segments = [BusSegment(address: bus.attach(region), byteCount: UInt32(frame.count))]
        defer { bus.detach(region) }
        var ended: [FrameSent] = []
        var outcome = queue.send(FrameOffload(), segments: segments.span)
        if outcome == .waiting {
            queue.flush(&ended)
            outcome = ended.last ?? .full
        }
        switch outcome {
        case .sent, .waiting: return
        case .full: throw .wouldBlock
        case .failed(let error): throw error
        }
    }
}

/// A reverse ARP request of an address for itself: every switch on its way learns where the address is.
struct AnnouncementFrame {
    let bytes: [UInt8]

    init(_ address: MACAddress) {
        let own = address.bytes
        // Ethernet, IPv4, 6 and 4 bytes, "request reverse".
        let fixed: [UInt8] = [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]
        let none: [UInt8] = [0, 0, 0, 0]
        let frame = MACAddress.broadcast.bytes + own + fixed + own + none + own + none
        bytes = frame + Array(repeating: 0, count: 60 - frame.count)
    }
}
