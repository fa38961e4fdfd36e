// What all users of one disk know together: which sectors are under way, and what each may hold.

import BlockFrontend
import Simulation

/// Numbers, ranges and the oracle of one disk.
final class DiskBook {
    let sectorCount: Int
    let canDiscard: Bool
    private var oracle: DiskOracle
    private var busy: Set<Int> = []
    private var lastNumber: UInt64 = 0
    private var lastTag: UInt64 = 0
    /// Operations that were answered.
    private(set) var answered = 0

    init(sectors: Int, canDiscard: Bool) {
        sectorCount = sectors
        self.canDiscard = canDiscard
        oracle = DiskOracle(sectors: sectors)
    }

    func nextNumber() -> UInt64 {
        lastNumber += 1
        return lastNumber
    }

    func nextTag() -> UInt64 {
        lastTag += 1
        return lastTag
    }

    func isFree(_ range: Range<Int>) -> Bool { range.allSatisfy { !busy.contains($0) } }

    func mark() -> DiskOracle.Mark { oracle.mark(last: lastNumber) }

    func asked(_ command: BlockCommand, _ number: UInt64, _ range: Range<Int>) {
        busy.formUnion(range)
        switch command {
        case .write: oracle.asked(number, order: number, range)
        case .discard: oracle.asked(0, order: number, range)
        case .read, .flush, .secureDiscard: break
        }
    }

    func ended(
        _ command: BlockCommand, _ number: UInt64, _ range: Range<Int>, _ mark: DiskOracle.Mark?, _ outcome: BlockOutcome
    ) {
        busy.subtract(range)
        answered += 1
        guard outcome == .okay else { return }
        switch command {
        case .write: oracle.done(number, range)
        case .flush: if let mark { oracle.flushed(mark) }
        case .read, .discard, .secureDiscard: break
        }
    }

    func powerFailed() { oracle.powerFailed() }

    func found(_ number: UInt64, in sector: Int) throws {
        let expected = oracle.expectation(of: sector)
        guard oracle.found(number, in: sector) else {
            throw Violation("sector \(sector) reads as write \(number), and should as \(expected)")
        }
    }
}
