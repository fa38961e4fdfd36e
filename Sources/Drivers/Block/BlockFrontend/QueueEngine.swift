// One queue shared by many callers: they submit under a lock, a thread reaps. For convenience, not for the last
// microsecond: whoever wants that owns a BlockQueue and polls it.

import LinuxSystem
import SharedMemory
import Synchronization

/// Part of a queue's buffer, lent to one caller.
struct BufferLease: Sendable {
    let page: Int
    let pages: Int
    var offset: Int { page * SharedRegion.pageSize }
}

/// A queue with a lock and a reaper.
final class QueueEngine: Sendable {
    private let state: ContendedLock<State>
    private let stopping = Atomic<Bool>(false)
    private let wake: WakePipe
    private let thread = Mutex<WorkerThread?>(nil)
    let buffer: SharedRegion

    private struct State: ~Copyable {
        var queue: BlockQueue
        var allocator: PageAllocator
        /// By tag: who waits for the operation.
        var waiters: [UInt64: @Sendable (BlockOutcome) -> Void] = [:]
        var nextTag: UInt64 = 0
        /// Who waits for room, in order; each tries again when called.
        var hungry: [@Sendable () -> Void] = []
        var isStopped = false
    }

    init(_ queue: consuming sending BlockQueue) throws(Errno) {
        buffer = queue.buffer
        let pages = queue.buffer.pageCount
        state = ContendedLock(State(queue: queue, allocator: PageAllocator(pages: pages)))
        wake = try WakePipe()
        let started = try WorkerThread(name: "vbd-reaper") { [self] in reapLoop() }
        thread.withLock { $0 = started }
    }

    /// The largest lease that always succeeds in the end.
    var largestLease: Int { buffer.byteCount / 4 }

    /// A part of the buffer, or nil: `whenRoom` is called once when it is worth trying again.
    func lease(_ byteCount: Int, whenRoom: @escaping @Sendable () -> Void) -> BufferLease? {
        let pages = max(1, (byteCount + SharedRegion.pageSize - 1) / SharedRegion.pageSize)
        return state.withLock { state in
            if let page = state.allocator.allocate(pages) { return BufferLease(page: page, pages: pages) }
            state.hungry.append(whenRoom)
            return nil
        }
    }

    func release(_ lease: BufferLease) {
        let hungry = state.withLock { state in
            state.allocator.free(lease.page, lease.pages)
            defer { state.hungry.removeAll() }
            return state.hungry
        }
        for retry in hungry { retry() }
    }

    /// What `submit` did.
    enum Submission {
        case taken
        /// The queue is full; `whenRoom` will be called.
        case full
        case refused(BlockFrontendError)
    }

    /// Starts an operation; `completion` is called on the reaper's thread, once.
    func submit(
        _ command: BlockCommand, sector: UInt64, lease: BufferLease?, byteCount: Int,
        whenRoom: @escaping @Sendable () -> Void, completion: @escaping @Sendable (BlockOutcome) -> Void
    ) -> Submission {
        state.withLock { state in
            if state.isStopped { return .refused(.removed) }
            let newsTaken = state.queue.newsTaken
            // The reaper may sleep on the doorbell of a connection that was replaced here; and an operation that ends
            // without the backend (a flush that needs none) leaves no doorbell to wake it.
            defer { if state.queue.newsTaken != newsTaken || state.queue.hasEnded { signalPipe(wake.writer) } }
            let tag = state.nextTag
            do throws(BlockFrontendError) {
                guard
                    try state.queue.submit(
                        command, sector: sector, bufferOffset: lease?.offset ?? 0, byteCount: byteCount, tag: tag)
                else {
                    state.hungry.append(whenRoom)
                    return .full
                }
            } catch { return .refused(error) }
            state.nextTag &+= 1
            state.waiters[tag] = completion
            state.queue.kick()
            return .taken
        }
    }

    /// Ends the reaper; operations in flight end as lost.
    func stop() {
        stopping.store(true, ordering: .sequentiallyConsistent)
        signalPipe(wake.writer)
        thread.withLock { $0.take() }?.join()
    }

    private func reapLoop() {
        while true {
            let isStopping = stopping.load(ordering: .sequentiallyConsistent)
            var calls: [(call: @Sendable (BlockOutcome) -> Void, outcome: BlockOutcome)] = []
            var hungry: [@Sendable () -> Void] = []
            var sleepsOn: (doorbell: Descriptor?, control: Descriptor)?
            state.withLock { state in
                if isStopping {
                    state.isStopped = true
                    state.queue.fail(.removed)
                }
                var ended: [BlockCompletion] = []
                state.queue.reap { ended.append($0) }
                for completion in ended {
                    if let call = state.waiters.removeValue(forKey: completion.tag) { calls.append((call, completion.outcome)) }
                }
                if !ended.isEmpty || isStopping {
                    hungry = state.hungry
                    state.hungry = []
                }
                if state.queue.armWakeUp() { sleepsOn = state.queue.wakeDescriptors }
            }
            // Outside the lock: a caller may submit again at once.
            for (call, outcome) in calls { call(outcome) }
            for retry in hungry { retry() }
            if isStopping { return }
            if let sleepsOn { sleep(sleepsOn) }
        }
    }

    private func sleep(_ descriptors: (doorbell: Descriptor?, control: Descriptor)) {
        let control = descriptors.control.rawValue
        let doorbell = descriptors.doorbell?.rawValue ?? control
        // Never for ever: callers submit without waking this thread, so it does not know whether anything is out.
        let limit = BlockQueue.recheckMilliseconds
        let isWoken = (try? waitReadable(doorbell, control, wake.reader.rawValue, milliseconds: limit)) ?? true
        drainPipe(wake.reader)
        state.withLock { state in
            state.queue.acknowledgeWakeUp()
            if !isWoken { _ = state.queue.recheck() }
        }
    }
}
