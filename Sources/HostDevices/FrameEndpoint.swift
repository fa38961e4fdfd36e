// The other end of a SocketNetwork: whole frames in and out of a program, with nothing of the kernel's network in between.

import Glibc
import LinuxSystem
import Packets

/// Frames of a link whose other end is a network device. Any thread may send, any may receive; each frame goes to one of them.
public final class FrameEndpoint: Sendable {
    private let file: Descriptor
    /// The most bytes that a frame has on any link.
    public static let mostBytes = 65_535

    init(_ file: Descriptor) { self.file = file }

    /// Readable when a frame can be taken.
    public var descriptor: Descriptor { file }

    /// Sends a whole frame, its checksums done; false if there is no room now.
    public func send(_ frame: [UInt8]) throws(Errno) -> Bool {
        var header = VirtioHeader()
        let count = unsafe withUnsafeMutableBytes(of: &header) { head in
            unsafe frame.withUnsafeBytes { body in
                // writev only reads; its structure has no word for that.
                let place = unsafe UnsafeMutableRawPointer(mutating: body.baseAddress)
                var parts = unsafe (
                    iovec(iov_base: head.baseAddress, iov_len: VirtioHeader.size), iovec(iov_base: place, iov_len: body.count)
                )
                return unsafe withUnsafeBytes(of: &parts) { unsafe writev(file.rawValue, $0.bindMemory(to: iovec.self).baseAddress, 2) }
            }
        }
        if count >= 0 { return true }
        let error = Errno.current
        // A full datagram socket says either; an interrupted call comes again.
        if [EAGAIN, ENOBUFS, EINTR].contains(error.rawValue) { return false }
        throw error
    }

    /// Takes a whole frame; nil if there is none now. A large or unfinished one, which comes only over a link that was told to bring them,
    /// is thrown away.
    public func receive() throws(Errno) -> [UInt8]? {
        while true {
            var header = VirtioHeader()
            var count = 0
            let frame = unsafe [UInt8](unsafeUninitializedCapacity: Self.mostBytes) { body, used in
                count = unsafe withUnsafeMutableBytes(of: &header) { head in
                    var parts = unsafe (
                        iovec(iov_base: head.baseAddress, iov_len: VirtioHeader.size),
                        iovec(iov_base: UnsafeMutableRawPointer(body.baseAddress), iov_len: body.count)
                    )
                    return unsafe withUnsafeBytes(of: &parts) { unsafe readv(file.rawValue, $0.bindMemory(to: iovec.self).baseAddress, 2) }
                }
                used = max(0, count - VirtioHeader.size)
            }
            if count < 0 {
                let error = Errno.current
                if error.rawValue == EAGAIN { return nil }
                if error.rawValue == EINTR { continue }
                throw error
            }
            guard count > VirtioHeader.size, let offload = header.offload, offload.checksum == nil, offload.segmentation == nil
            else { continue }
            return frame
        }
    }

    /// Waits until `receive` may find something; false if nothing came within `milliseconds` (-1: for ever).
    public func waitForFrame(milliseconds: Int32) throws(Errno) -> Bool { try wait(POLLIN, milliseconds) }
    /// Waits until `send` may find room.
    public func waitForRoom(milliseconds: Int32) throws(Errno) -> Bool { try wait(POLLOUT, milliseconds) }

    private func wait(_ events: Int32, _ milliseconds: Int32) throws(Errno) -> Bool {
        var entry = pollfd(fd: file.rawValue, events: Int16(events), revents: 0)
        let count = unsafe poll(&entry, 1, milliseconds)
        if count >= 0 { return count > 0 }
        let error = Errno.current
        if error.rawValue == EINTR { return false }
        throw error
    }
}

extension SocketNetwork {
    /// A device, and the end that a program sends and receives on.
    /// - Parameter bufferBytes: what may be under way in each direction; the system bounds it (net.core.wmem_max).
    public static func endpoint(
        _ name: String, mtu: Int = 1500, bufferBytes: Int = 4 << 20
    ) throws(Errno) -> (device: SocketNetwork, endpoint: FrameEndpoint) {
        let (device, other) = try descriptors(bufferBytes)
        return (SocketNetwork(name: name, end: device, mtu: mtu), FrameEndpoint(other))
    }
}
