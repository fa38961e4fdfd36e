// Bytes in and out of a descriptor, for control paths. Data paths go through the reactor's io_uring.

import CLinux
import Glibc

extension Descriptor {
    /// A pipe whose ends wait for each other (`pipe(2)`); for one that does not wait, see `WakePipe`.
    package static func pipe() throws(Errno) -> (reader: Descriptor, writer: Descriptor) {
        var ends: (Int32, Int32) = (-1, -1)
        // SAFETY: the call writes two numbers, and there is room for two.
        let result = unsafe withUnsafeMutableBytes(of: &ends) { bytes in
            guard let start = unsafe bytes.bindMemory(to: Int32.self).baseAddress else { return Int32(-1) }
            return unsafe Glibc.pipe(start)
        }
        if result < 0 { throw Errno.current }
        let (reader, writer) = (Descriptor(owning: ends.0), Descriptor(owning: ends.1))
        for end in [reader, writer] { try retryingInterrupts { fcntl(end.rawValue, F_SETFD, FD_CLOEXEC) } }
        return (reader, writer)
    }

    /// Reads what is there into the beginning of `buffer`; how many bytes, 0 at the end.
    package func read(into buffer: inout [UInt8]) throws(Errno) -> Int {
        // SAFETY: the kernel writes at most as many bytes as the buffer has.
        try retryingInterrupts {
            unsafe buffer.withUnsafeMutableBytes { unsafe Glibc.read(rawValue, $0.baseAddress, $0.count) }
        }
    }

    /// Everything up to the end.
    package func readToEnd() throws(Errno) -> [UInt8] {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = try read(into: &buffer)
            if count == 0 { return bytes }
            bytes += buffer[..<count]
        }
    }

    /// Writes what the kernel takes of `bytes`; how many these were.
    package func write(_ bytes: ArraySlice<UInt8>) throws(Errno) -> Int { try Self.write(bytes, to: rawValue) }

    /// Writes all of `bytes`.
    package func writeAll(_ bytes: [UInt8]) throws(Errno) { try Self.writeAll(bytes, to: rawValue) }

    /// Writes all of `bytes` to a descriptor that is not ours to close, such as standard output.
    package static func writeAll(_ bytes: [UInt8], to descriptor: Int32) throws(Errno) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = try write(rest, to: descriptor)
            // A file that takes nothing and says no error has no room.
            guard count > 0 else { throw .noSpace }
            rest = rest.dropFirst(count)
        }
    }

    private static func write(_ bytes: ArraySlice<UInt8>, to descriptor: Int32) throws(Errno) -> Int {
        // SAFETY: the kernel reads as many bytes as the slice has.
        try retryingInterrupts {
            unsafe bytes.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
        }
    }
}

/// A counter that wakes whoever waits for it (`eventfd(2)`), non-blocking.
package struct EventCounter: Sendable {
    /// Readable while the count is above 0.
    package let descriptor: Descriptor

    /// At 0.
    package init() throws(Errno) { descriptor = Descriptor(owning: try retryingInterrupts { causeway_eventfd() }) }

    /// Adds one.
    package func ring() { descriptor.addCount(1) }

    /// Back to 0.
    package func take() { descriptor.takeCount() }
}
