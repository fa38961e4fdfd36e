// A driver that writes its ring by hand, and knows what an obvious device takes from it.

import FuzzSupport
import VirtioModel
import VirtioRing
import VirtioWire

/// The ring of a driver that may do anything.
package struct Driver {
    private let rig: VirtioRig
    package let queue: SlowQueue
    package let isPacked: Bool
    package var slow: any SlowDevice
    /// Chains that the obvious device has, oldest first, where nobody else keeps them.
    package var out: [SlowChain] = []
    /// Where a packed ring's driver writes next.
    private var next = 0
    private var wrap = true

    package init(split queue: SlowQueue, in rig: VirtioRig) {
        self.rig = rig
        self.queue = queue
        isPacked = false
        slow = SlowSplitDevice(rig.slow, queue)
    }

    package init(packed queue: SlowQueue, in rig: VirtioRig) {
        self.rig = rig
        self.queue = queue
        isPacked = true
        slow = SlowPackedDevice(rig.slow, queue, start: 0)
    }

    /// One descriptor, shown at once if it is the last of its chain.
    /// - Parameter flags: 1 goes on, 2 to be written, 4 a table.
    package mutating func describe(_ address: UInt64, _ count: UInt32, flags: UInt64, name: UInt8) {
        let memory = rig.slow
        let index = UInt64(isPacked ? next : Int(name) % queue.size)
        let at = queue.descriptors + 16 * index
        memory.put(address, 8, at: at)
        memory.put(UInt64(count), 4, at: at + 8)
        if isPacked {
            memory.put(UInt64(name), 2, at: at + 12)
            memory.put(flags & 7 | (wrap ? 0x80 : 0x8000), 2, at: at + 14)
            next += 1
            if next == queue.size { (next, wrap) = (0, !wrap) }
        } else {
            memory.put(flags & 7, 2, at: at + 12)
            memory.put((index + 1) % UInt64(queue.size), 2, at: at + 14)
        }
    }

    /// The obvious device answers the oldest of `out`, until it has so many.
    package mutating func settle(_ unanswered: Int) {
        while out.count > unanswered {
            let chain = out.removeFirst()
            slow.put(chain.id, chain.entries, written: 0)
        }
        _ = slow.publish(storing: false)
    }

    /// A head of a split ring, shown as an honest driver shows it.
    package func show(_ head: UInt8) {
        guard !isPacked else { return }
        let index = rig.slow.number(queue.driver + 2, 2)
        rig.slow.put(UInt64(head) % UInt64(queue.size), 2, at: queue.driver + 4 + 2 * (index % UInt64(queue.size)))
        rig.slow.put((index + 1) % 65536, 2, at: queue.driver + 2)
    }
}

/// Bytes of some runs, from a place on.
package func gather(_ runs: [SlowRun], from skip: Int = 0, count: Int = .max, in rig: VirtioRig) -> [UInt8] {
    var bytes: [UInt8] = []
    var place = 0
    for run in runs {
        for offset in 0..<run.count {
            if bytes.count == count { return bytes }
            if place >= skip { bytes.append(rig.slow.byte(run.address + offset)) }
            place += 1
        }
    }
    return bytes
}

/// A device's ring that tells what was taken from it and put, and holds each chain against the obvious device's.
package struct ToldRing<Ring: DeviceRing & ~Copyable>: ~Copyable, DeviceRing {
    private var ring: Ring
    package let book: RingBook

    package init(_ ring: consuming Ring, _ book: RingBook) {
        self.ring = ring
        self.book = book
    }

    package var size: Int { ring.size }
    package var fault: VirtqueueError? { ring.fault }
    package var unanswered: Int { ring.unanswered }
    package var counters: VirtqueueCounters { ring.counters }
    package var base: UInt32 { ring.base }
    package mutating func hasChains() -> Bool { ring.hasChains() }
    package mutating func publish() -> Bool {
        _ = book.driver.slow.publish(storing: false)
        return ring.publish()
    }
    package mutating func armAndRecheck() -> Bool { ring.armAndRecheck() }
    package mutating func disarm() { ring.disarm() }
    package mutating func setLog(_ log: RingLog?) { ring.setLog(log) }

    package mutating func take<Memory: GuestMemory>(
        into chain: inout DescriptorChain, from memory: Memory
    ) throws(VirtqueueError) -> Taken {
        let other = book.driver.slow.take()
        let found: Taken
        do throws(VirtqueueError) { found = try ring.take(into: &chain, from: memory) } catch {
            require(other == .refused, "\(error), and \(other)")
            throw error
        }
        guard case .chain(let expected) = other else {
            require(found == .none, "took \(chain), and \(other)")
            return found
        }
        require(found == .chain && Int(chain.ticket.id) == expected.id, "took \(chain), and \(other)")
        book.chains.append(expected)
        return found
    }

    package mutating func put(_ ticket: ChainTicket, written: UInt32) {
        book.puts.append((Int(ticket.id), Int(written)))
        book.driver.slow.put(Int(ticket.id), Int(ticket.entries), written: written)
        ring.put(ticket, written: written)
    }
}

/// What a ring told.
package final class RingBook {
    package var driver: Driver
    /// Taken and not put, oldest first.
    package var chains: [SlowChain] = []
    /// Put and not looked at.
    package var puts: [(id: Int, written: Int)] = []

    package init(_ driver: Driver) { self.driver = driver }
}
