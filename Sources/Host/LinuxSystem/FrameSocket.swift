// Whole Ethernet frames out of an interface, past everything that a host does with packets: for measuring.

import CLinux

/// A socket that sends on one interface.
package struct FrameSocket {
    /// How many frames one call may send.
    package static let mostFrames = 64
    private let socket: Descriptor

    /// On the interface of this name, in the calling thread's namespace.
    package init(interface: String) throws(Errno) {
        // SAFETY: the name is only read.
        socket = Descriptor(owning: try retryingInterrupts { unsafe causeway_frame_socket(interface) })
    }

    /// Sends the same frame `count` times, at most `mostFrames`; how many went.
    /// - Throws: ENOBUFS if the interface's queue is full.
    package func send(_ frame: [UInt8], count: Int) throws(Errno) -> Int {
        let times = Int32(min(count, Self.mostFrames))
        // SAFETY: the call reads as many bytes as the frame has.
        return Int(try retryingInterrupts { unsafe causeway_send_frames(socket.rawValue, frame, frame.count, times) })
    }
}
