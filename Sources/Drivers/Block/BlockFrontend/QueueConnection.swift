// What the control thread hands to a queue when a backend connects: a ring, a doorbell and what was agreed.

import BlockProtocol
import DeviceFaults
import Hypervisor
import LinuxSystem
import RingFaults
import SharedMemory
import Synchronization

/// What both sides agreed on; constant for one connection.
public struct BlockAgreement: Sendable {
    /// The disk as the backend published it.
    public var properties: BlockProperties
    /// Segments of a request, 11 or what indirect requests allow.
    public var segments: Int
    /// Whether grants stay mapped: both sides said so.
    public var persistent: Bool
    /// Whether the toolstack lets the backend be trusted to fill what it says that it has read (`trusted`).
    public var isTrusted = true
}

/// One queue's part of a connection. Made by the control thread, given to the queue's owner.
final class QueueConnection: Sendable {
    let ring: any OfferedPages
    let channel: any EventChannel
    let abi: BlockABI
    let agreement: BlockAgreement

    init(ring: any OfferedPages, channel: any EventChannel, abi: BlockABI, agreement: BlockAgreement) {
        self.ring = ring
        self.channel = channel
        self.abi = abi
        self.agreement = agreement
    }
}

/// News from the control thread to a queue's owner: the latest counts, earlier ones are overtaken.
enum QueueNews: Sendable {
    /// Stop using the ring; keep what is in flight.
    case suspended
    /// Use this ring from now on, and ask again for all that is in flight.
    case connected(QueueConnection)
    /// The backend is there, and takes fewer queues than there are: this one is left over until the next connection.
    case displaced
    /// The disk has another size.
    case resized(UInt64)
    /// Other faults are set on purpose, in slots of this form.
    case spoilt(FaultBook, SlotForm)
    /// Give up.
    case lost(BlockFrontendError)
}

/// Where the control thread leaves news. The owner looks at one atomic word in each turn, and is woken if it sleeps.
///
/// Nobody waits for the owner: what a suspended connection had stays mapped here until the owner lets go of it, so an
/// owner that is late writes into a ring that nobody reads, and asks again on the next one.
final class QueueMailbox: Sendable {
    private let news = Mutex<[QueueNews]>([])
    private let waiting = Atomic<Bool>(false)
    private let failed: @Sendable (BlockFrontendError) -> Void
    let pipe: WakePipe

    /// `failed` is told, on the owner's thread, of a backend that broke the protocol.
    init(failed: @escaping @Sendable (BlockFrontendError) -> Void) throws(Errno) {
        pipe = try WakePipe()
        self.failed = failed
    }

    /// The other way: the owner found the backend broken.
    func report(_ error: BlockFrontendError) { failed(error) }

    /// Leaves news and wakes the owner.
    func post(_ item: QueueNews) {
        news.withLock { $0.append(item) }
        // Release: the list before the flag.
        waiting.store(true, ordering: .releasing)
        signalPipe(pipe.writer)
    }

    /// Whether there is something the owner has not taken.
    @inline(__always)
    var hasNews: Bool { waiting.load(ordering: .relaxed) }

    /// Takes all news, in order.
    func take() -> [QueueNews] {
        // The flag first: news that come in between raise it again.
        waiting.store(false, ordering: .sequentiallyConsistent)
        drainPipe(pipe.reader)
        return news.withLock { list in
            defer { list.removeAll() }
            return list
        }
    }
}
