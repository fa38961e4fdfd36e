// A split ring, obviously. Positions are counts since the beginning; the wire shows them modulo 2^16.

import SharedMemory

/// A device's end of a split ring.
public struct SlowSplitDevice: SlowDevice {
    let memory: SlowMemory
    let queue: SlowQueue
    var taken: Int
    var known: Int
    var answered: [(id: Int, written: UInt32)] = []
    var shown: Int
    var out: Set<Int> = []
    /// See `SlowDevice`.
    public var isBroken = false
    /// Whether the fault was said to whoever takes. One that a look before sleeping found was not yet.
    var isTold = false

    /// - Parameter start: where both indices begin, 0 to 65535.
    public init(_ memory: SlowMemory, _ queue: SlowQueue, start: Int = 0) {
        self.memory = memory
        self.queue = queue
        taken = start
        known = start
        shown = start
    }

    /// See `SlowDevice`.
    public var unanswered: Int { out.count }

    /// See `SlowDevice`.
    public mutating func look() -> Bool {
        if isBroken { return !isTold }
        if known > taken { return true }
        let word = Int(memory.number(queue.driver + 2, 2))
        // The first count from what was taken on that looks like this on the wire.
        let count = taken + (word - taken % 65536 + 65536) % 65536
        if count > shown + queue.size {
            isBroken = true
            return true
        }
        known = count
        return known > taken
    }

    /// See `SlowDevice`.
    public mutating func take() -> SlowTaken {
        guard isBroken || look() else { return .none }
        if isBroken {
            isTold = true
            return .refused
        }
        let head = Int(memory.number(queue.driver + 4 + 2 * UInt64(taken % queue.size), 2))
        guard head < queue.size, !out.contains(head), let chain = chain(head) else {
            (isBroken, isTold) = (true, true)
            return .refused
        }
        out.insert(head)
        taken += 1
        return .chain(chain)
    }

    private func chain(_ head: Int) -> SlowChain? {
        var runs: [SlowRun] = []
        var met: Set<Int> = []
        var wrote = false
        var index = head
        while true {
            guard index < queue.size, met.insert(index).inserted else { return nil }
            let place = queue.descriptors + 16 * UInt64(index)
            let (at, length) = (memory.number(place, 8), memory.number(place + 8, 4))
            let flags = memory.number(place + 12, 2)
            if flags & 4 != 0 {
                guard queue.tables, flags & 1 == 0,
                    table(at, length, isPacked: false, size: queue.size, &runs, &wrote, memory)
                else { return nil }
                return SlowChain(id: head, entries: met.count, runs: runs)
            }
            guard let run = run(at, length, flags, after: runs, &wrote, memory) else { return nil }
            if run.count > 0 { runs.append(run) }
            if flags & 1 == 0 { return SlowChain(id: head, entries: met.count, runs: runs) }
            index = Int(memory.number(place + 14, 2))
        }
    }

    /// See `SlowDevice`.
    public mutating func put(_ id: Int, _ entries: Int, written: UInt32) {
        out.remove(id)
        answered.append((id, written))
    }

    /// See `SlowDevice`.
    public mutating func publish(storing: Bool) -> Bool {
        if answered.isEmpty { return false }
        let first = shown
        for (place, one) in answered.enumerated() where storing {
            let entry = queue.device + 4 + 8 * UInt64((first + place) % queue.size)
            memory.put(UInt64(one.id), 4, at: entry)
            memory.put(UInt64(one.written), 4, at: entry + 4)
        }
        shown += answered.count
        answered = []
        if storing { memory.put(UInt64(shown % 65536), 2, at: queue.device + 2) }
        guard queue.events else { return memory.number(queue.driver, 2) & 1 == 0 }
        let event = Int(memory.number(queue.driver + 4 + 2 * UInt64(queue.size), 2))
        return (first..<shown).contains { $0 % 65536 == event }
    }

    /// See `SlowDevice`.
    public func arm() {
        if queue.events {
            memory.put(UInt64(taken % 65536), 2, at: queue.device + 4 + 8 * UInt64(queue.size))
        } else {
            memory.put(0, 2, at: queue.device)
        }
    }

    /// What an armed device's event says.
    public var armedEvent: UInt64 {
        queue.events ? memory.number(queue.device + 4 + 8 * UInt64(queue.size), 2) : memory.number(queue.device, 2)
    }
}
