// Who uses one queue of a disk's frontend: asks, sleeps as a thread would, looks at what it gets.

import BlockFrontend
import LinuxSystem
import SharedMemory
import Simulation

/// One queue's user.
final class DiskUser {
    /// Operations at once, and sectors of the longest.
    static let depth = 6, longest = 96

    private var queue: BlockQueue
    private let host: SimulatedHost
    private let book: DiskBook
    /// Operations by their tag.
    private var asked: [UInt64: Asked] = [:]
    private var freePlaces: [Int]
    /// When it went to sleep, or last looked for a lost ring; nil: it is awake.
    private var sleepsSince: UInt64?
    /// Whether it begins anything new.
    var isBusy = true

    private struct Asked {
        let command: BlockCommand
        let range: Range<Int>
        let place: Int
        /// A write's or discard's number.
        let number: UInt64
        let mark: DiskOracle.Mark?
    }

    init(_ queue: consuming sending BlockQueue, _ book: DiskBook, _ host: SimulatedHost) {
        self.queue = queue
        self.book = book
        self.host = host
        freePlaces = Array(0..<Self.depth)
    }

    /// Operations that have not been answered.
    var inFlight: Int { asked.count }
    /// Why the queue is of no more use.
    var failure: BlockFrontendError? { queue.failure }
    /// When it looks for a ring that was lost; nil: it need not.
    var wakesAt: UInt64? { asked.isEmpty ? nil : sleepsSince.map { $0 + 1_000_000_000 } }

    /// One turn of its thread; true if it did something.
    func turn() throws -> Bool {
        if let since = sleepsSince {
            let (bell, control) = queue.wakeDescriptors
            if try waitReadable(bell?.rawValue ?? control.rawValue, control.rawValue, milliseconds: 0) {
                queue.acknowledgeWakeUp()
                sleepsSince = nil
            } else if !asked.isEmpty, host.clock.nanoseconds >= since + 1_000_000_000 {
                sleepsSince = queue.recheck() ? nil : host.clock.nanoseconds
            } else if isBusy, !freePlaces.isEmpty, host.chance.oneIn(4) {
                sleepsSince = nil
            }
            if sleepsSince != nil { return false }
        }
        let answered = try reap()
        let begun = isBusy ? try begin() : 0
        if answered + begun == 0, queue.armWakeUp() { sleepsSince = host.clock.nanoseconds }
        return answered + begun > 0
    }

    private func reap() throws -> Int {
        var completions: [BlockCompletion] = []
        queue.reap { completions.append($0) }
        for completion in completions { try ended(completion) }
        return completions.count
    }

    private func begin() throws -> Int {
        var count = 0
        while !freePlaces.isEmpty, host.chance.oneIn(2), try ask() { count += 1 }
        if count > 0 { queue.kick() }
        return count
    }

    private func ask() throws -> Bool {
        let (command, range) = choose()
        guard book.isFree(range) else { return false }
        guard let place = freePlaces.popLast() else { return false }
        let offset = place * Self.longest * SectorStamp.byteCount
        let number = command == .write || command == .discard ? book.nextNumber() : 0
        if command == .write {
            for (index, sector) in range.enumerated() {
                SectorStamp.store(number, sector: UInt64(sector), in: queue.buffer, at: offset + index * 512)
            }
        }
        let tag = book.nextTag()
        do throws(BlockFrontendError) {
            guard
                try queue.submit(
                    command, sector: UInt64(range.lowerBound), bufferOffset: offset, byteCount: range.count * 512, tag: tag)
            else { throw .badRequest("full with \(asked.count) of \(Self.depth)") }
        } catch {
            freePlaces.append(place)
            guard error == .displaced || queue.failure != nil else { throw Violation("submit: \(error)") }
            return false
        }
        asked[tag] = Asked(
            command: command, range: range, place: place, number: number, mark: command == .flush ? book.mark() : nil)
        book.asked(command, number, range)
        host.trace.note(3 << 32 | tag, "user: \(command) of \(range) is asked as \(tag), number \(number)")
        return true
    }

    private func choose() -> (BlockCommand, Range<Int>) {
        let chance = host.chance
        let kind = chance.below(20)
        let count = chance.oneIn(4) ? 1 + chance.below(Self.longest) : 1 + chance.below(8)
        let first = chance.below(book.sectorCount - count + 1)
        let range = first..<first + count
        switch kind {
        case 0: return (.flush, first..<first)
        case 1: return book.canDiscard ? (.discard, range) : (.write, range)
        case 2..<11: return (.write, range)
        default: return (.read, range)
        }
    }

    private func ended(_ completion: BlockCompletion) throws {
        guard let asked = asked.removeValue(forKey: completion.tag) else {
            throw Violation("operation \(completion.tag) is answered and was not asked for, or is answered twice")
        }
        host.trace.note(4 << 32 | completion.tag, "user: \(completion.tag) ends: \(completion.outcome)")
        freePlaces.append(asked.place)
        book.ended(asked.command, asked.number, asked.range, asked.mark, completion.outcome)
        guard asked.command == .read, completion.outcome == .okay else { return }
        let offset = asked.place * Self.longest * SectorStamp.byteCount
        for (index, sector) in asked.range.enumerated() {
            guard let number = SectorStamp.number(of: queue.buffer, at: offset + index * 512, sector: UInt64(sector)) else {
                throw Violation("a read of sector \(sector) is no write's bytes")
            }
            try book.found(number, in: sector)
        }
    }

    /// Its process was killed: what it asked for may be done yet, or not.
    func die() {
        for asked in asked.values { book.ended(asked.command, asked.number, asked.range, nil, .lost) }
        asked = [:]
    }
}
