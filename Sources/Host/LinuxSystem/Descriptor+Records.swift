// One call for one whole record: counters, and the structures that queues and device nodes of the kernel give and take.

import CLinux
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

    /// Adds to the count of an eventfd that nobody else has; false if a non-blocking one cannot take as much.
    @discardableResult package func addCount(_ count: UInt64) -> Bool { writeRecord(count) }

    /// Adds to the count of an eventfd that somebody else has, too: he may have made it block. Waits a few hundredths
    /// of a second at most.
    @discardableResult package func tell(_ count: UInt64 = 1) -> BellOutcome { Self.tell(count, by: rawValue) }

    /// The same, by the eventfd's number, which somebody else keeps open.
    package static func tell(_ count: UInt64, by number: Int32) -> BellOutcome {
        BellOutcome(causeway_ring_bell(number, count))
    }

    /// Takes an eventfd's count; 0 if it is at rest. Does not block, whatever somebody else has made of the eventfd.
    @discardableResult package func takeCount() -> UInt64 { causeway_take_bell(rawValue) }

    /// Whether it is an eventfd, whoever made it.
    package var isEventCounter: Bool {
        FileSystem.text(of: "/proc/self/fdinfo/\(rawValue)")?.contains("eventfd-count:") ?? false
    }
}

/// What became of a count that was to be added to an eventfd.
public enum BellOutcome: Sendable {
    /// It is there.
    case told
    /// There is no room for it, or it is no eventfd any more.
    case full
    /// It had no room, and somebody had made it block; it has been made non-blocking again.
    case blocked

    init(_ outcome: Int32) {
        switch Int(outcome) {
        case causeway_bell_told: self = .told
        case causeway_bell_blocked: self = .blocked
        default: self = .full
        }
    }
}
