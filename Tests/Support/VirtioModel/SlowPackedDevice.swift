// A packed ring, obviously. Positions count entries since the beginning; offset and round follow from them.

import SharedMemory

/// A device's end of a packed ring.
public struct SlowPackedDevice: SlowDevice {
    let memory: SlowMemory
    let queue: SlowQueue
    /// Entries taken.
    var taken: Int
    /// Entries given back, shown or not.
    var given: Int
    var shown: Int
    var answered: [(id: Int, entries: Int, written: UInt32)] = []
    var out: Set<Int> = []
    /// See `SlowDevice`.
    public var isBroken = false

    /// - Parameter start: entries since the beginning of a ring whose first round counts as 1.
    public init(_ memory: SlowMemory, _ queue: SlowQueue, start: Int = 0) {
        self.memory = memory
        self.queue = queue
        taken = start
        given = start
        shown = start
    }

    /// See `SlowDevice`.
    public var unanswered: Int { out.count }

    private func offset(_ position: Int) -> Int { position % queue.size }
    private func wrap(_ position: Int) -> UInt64 { position / queue.size % 2 == 0 ? 1 : 0 }
    private func place(_ position: Int) -> UInt64 { queue.descriptors + 16 * UInt64(offset(position)) }

    /// See `SlowDevice`.
    public mutating func look() -> Bool {
        if isBroken { return false }
        let flags = memory.number(place(taken) + 14, 2)
        return flags >> 7 & 1 == wrap(taken) && flags >> 15 & 1 != wrap(taken)
    }

    /// See `SlowDevice`.
    public mutating func take() -> SlowTaken {
        if isBroken { return .refused }
        guard look() else { return .none }
        guard let chain = chain(), out.insert(chain.id).inserted else {
            isBroken = true
            return .refused
        }
        taken += chain.entries
        return .chain(chain)
    }

    private func chain() -> SlowChain? {
        var runs: [SlowRun] = []
        var wrote = false
        var position = taken
        while true {
            // All entries that are not out are those after the ones taken.
            guard position < shown + queue.size else { return nil }
            let place = place(position)
            let (at, length, id) = (memory.number(place, 8), memory.number(place + 8, 4), memory.number(place + 12, 2))
            let flags = memory.number(place + 14, 2)
            position += 1
            if flags & 4 != 0 {
                guard queue.tables, flags & 1 == 0, position == taken + 1,
                    table(at, length, isPacked: true, size: queue.size, &runs, &wrote, memory)
                else { return nil }
            } else {
                guard let run = run(at, length, flags, after: runs, &wrote, memory) else { return nil }
                if run.count > 0 { runs.append(run) }
            }
            if flags & 1 == 0 { return SlowChain(id: Int(id), entries: position - taken, runs: runs) }
        }
    }

    /// See `SlowDevice`.
    public mutating func put(_ id: Int, _ entries: Int, written: UInt32) {
        out.remove(id)
        answered.append((id, entries, written))
    }

    /// See `SlowDevice`.
    public mutating func publish(storing: Bool) -> Bool {
        if answered.isEmpty { return false }
        let first = shown
        for one in answered {
            if storing {
                let place = place(shown)
                memory.put(UInt64(one.written), 4, at: place + 8)
                memory.put(UInt64(one.id), 2, at: place + 12)
                memory.put((one.written > 0 ? 2 : 0) | wrap(shown) << 7 | wrap(shown) << 15, 2, at: place + 14)
            }
            shown += one.entries
        }
        answered = []
        let flags = memory.number(queue.driver + 2, 2)
        if flags == 1 { return false }
        guard queue.events, flags == 2 else { return true }
        let event = memory.number(queue.driver, 2)
        return (first..<shown).contains { UInt64(offset($0)) == event & 0x7FFF && wrap($0) == event >> 15 }
    }

    /// See `SlowDevice`.
    public func arm() {
        memory.put(queue.events ? UInt64(offset(taken)) | wrap(taken) << 15 : 0, 2, at: queue.device)
        memory.put(queue.events ? 2 : 0, 2, at: queue.device + 2)
    }

    /// Where the next chain is looked for, as an event says it.
    public var wire: UInt32 { UInt32(offset(taken)) | UInt32(wrap(taken)) << 15 }
}
