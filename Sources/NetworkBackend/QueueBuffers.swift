// A queue's private memory, made before anything of the frontend's is mapped. The kernel gives pages only to what is used.

import LinuxSystem
import SharedMemory

/// Memory that only this process reaches.
struct QueueBuffers {
    /// Pages that the largest frame takes: 65535 bytes, and an Ethernet header more from a device.
    static let pagesPerFrame = 17
    /// Frames that are on their way to the frontend in one turn at most, if its pages are not mapped.
    static let stagedFrames = 16

    /// First bytes of packets from the frontend.
    let heads: SharedRegion
    /// Packets from the frontend whose pages are not mapped: as many bytes as a ring's slots can name.
    let bounce: SharedRegion
    /// Frames for the frontend, and behind them one frame's head.
    let staging: SharedRegion

    init() throws(Errno) {
        heads = try SharedRegion(anonymous: TransmitCore.batch * TransmitCore.headSize)
        bounce = try SharedRegion(anonymous: 256 * SharedRegion.pageSize)
        staging = try SharedRegion(anonymous: (Self.stagedFrames * Self.pagesPerFrame + 1) * SharedRegion.pageSize)
    }
}
