// The queues of a tap (`/dev/net/tun`), an Ethernet interface whose wire is a process.

import CLinux
import Glibc

/// One queue of a tap: a descriptor that gives and takes whole frames, each behind a virtio header of 10 bytes. It
/// never waits.
package enum TapQueue {
    /// A queue, and whether the tap has room for no other: it was made so.
    package typealias Opened = (queue: Descriptor, isSingle: Bool)

    /// Opens a queue of the tap `name`, which is made if there is none, with room for several.
    package static func open(_ name: String) throws(Errno) -> Opened {
        var isSingle: Int32 = 0
        // SAFETY: the name is only read, the number only written, during the call.
        let queue = Descriptor(owning: try retryingInterrupts { unsafe causeway_tap_open(name, &isSingle) })
        return (queue, isSingle != 0)
    }

    /// What the interface is called now; nil if it is gone.
    package static func name(of queue: Descriptor) -> String? {
        var bytes = [CChar](repeating: 0, count: 16)
        // SAFETY: the call writes at most 16 bytes (IFNAMSIZ), a NUL among them.
        guard unsafe causeway_tap_name(queue.rawValue, &bytes) == 0 else { return nil }
        return String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Whether a queue's tap has room for no other.
    package static func isSingle(_ queue: Descriptor) -> Bool { causeway_tap_is_single(queue.rawValue) == 1 }

    /// The network namespace that the interface is in now, wherever the queue was opened; nil if it is gone, or the
    /// kernel does not tell (before Linux 5.8).
    package static func namespace(of queue: Descriptor) -> NamespaceFile? {
        guard let raw = try? retryingInterrupts({ causeway_tap_namespace(queue.rawValue) }) else { return nil }
        return NamespaceFile(Descriptor(owning: raw))
    }

    /// Throws away what has gathered in a queue while nobody read it.
    package static func drain(_ queue: Descriptor) {
        var buffer = [UInt8](repeating: 0, count: 2048)
        // No longer than a tap's queue can be: others may go on sending.
        for _ in 0..<4096 { if (try? queue.read(into: &buffer)) == nil { return } }
    }
}
