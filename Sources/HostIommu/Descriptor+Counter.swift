// Reading and writing whole records, and the errors that mean something here.

import Glibc
import LinuxSystem

extension Descriptor {
    /// Takes a non-blocking eventfd's count; 0 if it is at rest.
    func readCounter() -> UInt64 {
        var count: UInt64 = 0
        return read(&count) ? count : 0
    }

    /// Reads one record; false if there is none (a part of one is nothing).
    func read<T: BitwiseCopyable>(_ record: inout T) -> Bool {
        let size = MemoryLayout<T>.size
        return unsafe withUnsafeMutableBytes(of: &record) { unsafe Glibc.read(rawValue, $0.baseAddress, size) } == size
    }

    /// Writes one record. A failure leaves the kernel without an answer, which it does not wait for once the descriptor is closed.
    func write<T: BitwiseCopyable>(_ record: inout T) {
        let size = MemoryLayout<T>.size
        _ = unsafe withUnsafeMutableBytes(of: &record) { unsafe Glibc.write(rawValue, $0.baseAddress, size) }
    }
}

extension Errno {
    static var exists: Errno { Errno(EEXIST) }
    static var noSpace: Errno { Errno(ENOSPC) }
    static var invalid: Errno { Errno(EINVAL) }
    static var overflow: Errno { Errno(EOVERFLOW) }
    static var messageSize: Errno { Errno(EMSGSIZE) }
    static var notTTY: Errno { Errno(ENOTTY) }
    static var notSupported: Errno { Errno(EOPNOTSUPP) }
}
