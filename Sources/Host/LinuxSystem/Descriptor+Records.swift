// One call for one whole record: counters, and the structures that queues and device nodes of the kernel give and take.

import Glibc

extension Descriptor {
    /// Reads one record; false if there is none (a part of one is nothing). `T` is an integer or a structure of
    /// integers.
    package func readRecord<T: BitwiseCopyable>(_ record: inout T) -> Bool {
        let size = MemoryLayout<T>.size
        // SAFETY: the kernel writes at most the record's own bytes.
        return unsafe withUnsafeMutableBytes(of: &record) { unsafe Glibc.read(rawValue, $0.baseAddress, size) } == size
    }

    /// Writes one record; false if it was not taken, and then errno says why.
    @discardableResult package func writeRecord<T: BitwiseCopyable>(_ record: T) -> Bool {
        let size = MemoryLayout<T>.size
        // SAFETY: the kernel reads the record's own bytes.
        return unsafe withUnsafeBytes(of: record) { unsafe Glibc.write(rawValue, $0.baseAddress, size) } == size
    }

    /// Adds to an eventfd's count; false if a non-blocking one cannot take as much.
    @discardableResult package func addCount(_ count: UInt64) -> Bool { writeRecord(count) }

    /// As `addCount`, of an eventfd by its number, which somebody else keeps open.
    package static func addCount(_ count: UInt64, to number: Int32) -> Bool {
        // SAFETY: the kernel reads the eight bytes of the count.
        unsafe withUnsafeBytes(of: count) { unsafe Glibc.write(number, $0.baseAddress, 8) } == 8
    }

    /// Takes a non-blocking eventfd's count; 0 if it is at rest.
    @discardableResult package func takeCount() -> UInt64 {
        var count: UInt64 = 0
        return readRecord(&count) ? count : 0
    }

    /// Whether it is an eventfd, whoever made it.
    package var isEventCounter: Bool {
        FileSystem.text(of: "/proc/self/fdinfo/\(rawValue)")?.contains("eventfd-count:") ?? false
    }
}
