// A tap as drivers use it.

import CLinux
import DMA
import LinuxSystem
import Packets

extension TapDevice {
    /// Sets the interface's carrier, as its users see it.
    public func setCarrier(_ isUp: Bool) throws(Errno) {
        _ = try retryingInterrupts { causeway_tap_carrier(keeper.rawValue, isUp ? 1 : 0) }
    }

    /// Lets the interface go with its last descriptor. One with a single queue is somebody else's.
    public func retire() { if !isSingle { _ = causeway_tap_persist(keeper.rawValue, 0) } }

    /// Bytes of payload in a frame, as the interface has it now.
    public var mtu: Int {
        ((try? inPlace { name throws(Errno) in HostInterface.mtu(of: name) }) ?? nil) ?? 1500
    }

    /// Sees to it that the interface shows no MTU above `most`; what that changed.
    public func limitMTU(to most: Int) throws(Errno) -> MTUChange? {
        state.withLock { $0.mostMTU = most }
        return try keepMTULimit()
    }

    /// Sets what frames it may be given whole; see `NetworkDevice`. The kernel takes that for what is wanted, too: what
    /// an administrator or a script wants less of (`ethtool -K`) is put back.
    public func setOffloads(_ offloads: OffloadSet) throws(Errno) {
        let wishes = (try? inPlace { name throws(Errno) in InterfaceWishes(of: name) }) ?? nil
        try Self.setOffloads(offloads, of: keeper)
        if let wishes { try? inPlace { name throws(Errno) in wishes.restore(on: name) } }
    }

    /// The same, by any of its queues.
    package static func setOffloads(_ offloads: OffloadSet, of queue: Descriptor) throws(Errno) {
        // The kernel wants blank checksums allowed before large frames; both may then come with congestion marks.
        var flags = offloads.contains(.checksum) ? offloads.rawValue & 7 : 0
        if flags & 6 != 0 { flags |= 8 }
        _ = try retryingInterrupts { causeway_tap_offload(queue.rawValue, flags) }
    }

    /// The descriptor that keeps it, then its queues.
    public var lifeline: [Descriptor] { [keeper] + state.withLock { $0.queues + $0.adopted } }

    /// Closes the queues that nobody has opened again: the kernel gives each its share of the traffic.
    public func settle() {
        // Closed when nobody waits for the lock.
        let unused = state.withLock { state in
            defer { state.adopted = [] }
            return state.adopted
        }
        withExtendedLifetime(unused) {}
    }

    /// As many as it was made for.
    public var mostQueues: Int { isSingle ? 1 : .max }

    /// Whether somebody deleted it.
    public var isGone: Bool { state.withLock(\.isGone) }

    /// One that is gone has none; of another it knows nothing.
    public var carrier: Bool? { isGone ? false : nil }

    /// Calls `changed` when it is gone; see `NetworkDevice`.
    public func watchCarrier(_ changed: @escaping @Sendable () -> Void) {
        let isGone = state.withLock { state in
            state.watcher = changed
            return state.isGone
        }
        // It was before anybody watched.
        if isGone { changed() }
    }

    /// Opens one more queue; see `NetworkDevice`.
    public func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue {
        let gone: @Sendable () -> Void = { [weak self] in self?.noteGone() }
        guard isSingle else {
            let handed = state.withLock { $0.adopted.popLast() }
            let queue: Descriptor
            if let handed { queue = handed } else { queue = try inPlace { name throws(Errno) in try TapQueue.open(name).queue } }
            state.withLock { $0.queues.append(queue) }
            return try FrameQueue(queue, bus, gone: gone) { [weak self] in
                self?.state.withLock { state in state.queues.removeAll { $0 === queue } }
            }
        }
        guard !isGone else { throw .noSuchDevice }
        let isFree = state.withLock { state in
            defer { state.hasQueue = true }
            return !state.hasQueue
        }
        guard isFree else { throw .busy }
        // What came while nobody was connected is too old to be delivered.
        let isHandedOn = state.withLock { state in
            defer { state.isHandedOn = false }
            return state.isHandedOn
        }
        if !isHandedOn { TapQueue.drain(keeper) }
        return try FrameQueue(keeper, bus, gone: gone) { [weak self] in self?.state.withLock { $0.hasQueue = false } }
    }
}
