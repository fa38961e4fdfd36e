// The state page: the last whole value, whatever the writer does.

import Foundation
@testable import SharedMemory
import Synchronization
import Testing

private typealias Row = InlineArray<32, UInt64>

@Suite struct StatePageTests {
    @Test func theLastValueWins() throws {
        for start: UInt32 in [0, .max - 3] {
            let region = try SharedRegion(anonymous: 4096)
            var writer = StatePageWriter<UInt64>(initialising: region, startingAt: start)
            var reader = StatePageReader<UInt64>(attaching: region, initial: 99, startingAt: start)
            for value in UInt64(1)..<20 {
                let before = reader.refresh()
                #expect(before == .unchanged)
                for step in 0...value % 6 { writer.write(value * 10 + step) }
                let after = reader.refresh(), now = reader.value
                #expect(after == .changed && now == value * 10 + value % 6)
            }
        }
    }

    /// A writer that dies in the middle of a value: what was whole stays readable, and a late reader finds it too.
    @Test func aDeadWriterLeavesTheLastWholeValue() throws {
        let region = try SharedRegion(anonymous: 4096)
        var writer = StatePageWriter<Row>(initialising: region)
        writer.write(Row(repeating: 5))
        // Half of the next copy, never published.
        region.fill(StatePageLayout.offset(2, MemoryLayout<Row>.size), count: 100, with: 0xEE)
        var reader = StatePageReader<Row>(attaching: region, initial: Row(repeating: 0))
        let result = reader.refresh(), first = reader.value[0], last = reader.value[31]
        #expect(result == .changed && first == 5 && last == 5)
    }

    /// Torn values would differ within; versions never run backwards.
    @Test(.timeLimit(.minutes(3)))
    func noValueIsTorn() throws {
        let region = try SharedRegion(anonymous: 4096)
        let ended = Flag()
        var reader = StatePageReader<Row>(attaching: region, initial: Row(repeating: 0))
        let thread = Thread {
            var writer = StatePageWriter<Row>(initialising: region)
            for value in UInt64(1)...400_000 { writer.write(Row(repeating: value)) }
            ended.set()
        }
        thread.start()
        var last: UInt64 = 0, changes = 0, contended = 0
        while true {
            let isLast = ended.isSet
            switch reader.refresh() {
            case .changed: changes += 1
            case .contended: contended += 1
            case .unchanged: break
            }
            let value = reader.value
            let first = value[0]
            for index in 1..<32 where value[index] != first {
                Issue.record("torn: \(first) and \(value[index])"); ended.set(); return
            }
            if first < last { Issue.record("backwards: \(last), then \(first)") }
            last = first
            if isLast { break }
        }
        #expect(last == 400_000)
        #expect(changes > 0, "\(contended) contended")
    }

    /// A writer that comes round to the copy being read, which a real one does only while a reader sleeps in the middle
    /// of it.
    @Test(.timeLimit(.minutes(3)))
    func aCopyThatIsWrittenOverIsNotTaken() throws {
        let region = try SharedRegion(anonymous: 4096)
        let size = MemoryLayout<Row>.size
        let ended = Flag()
        let thread = Thread {
            var version: UInt32 = 0
            while !ended.isSet {
                version &+= 4
                // As if the three versions between had been written, too.
                region.storeReleasing(version &- 1, at: 0)
                fullFence()
                for index in 0..<32 { region.store(UInt64(version), at: StatePageLayout.offset(version, size) + 8 * index) }
                region.storeReleasing(version, at: 0)
            }
        }
        thread.start()
        defer { ended.set() }
        var reader = StatePageReader<Row>(attaching: region, initial: Row(repeating: 0))
        let start = ContinuousClock.now
        var taken = 0
        while ContinuousClock.now - start < .seconds(1) {
            if reader.refresh() == .changed { taken += 1 }
            let value = reader.value
            for index in 1..<32 where value[index] != value[0] { Issue.record("torn: \(value[0]) and \(value[index])"); return }
        }
    }

    /// A writer that plays with the sequence costs a reader eight copies, not its life.
    @Test(.timeLimit(.minutes(3)))
    func aHostileWriterCannotHoldAReader() throws {
        let region = try SharedRegion(anonymous: 4096)
        let ended = Flag()
        let thread = Thread {
            var sequence: UInt32 = 0
            while !ended.isSet { sequence &+= 0x4000_0003; region.storeRelaxed(sequence, at: 0) }
        }
        thread.start()
        var reader = StatePageReader<Row>(attaching: region, initial: Row(repeating: 0))
        for _ in 0..<20_000 { _ = reader.refresh() }
        ended.set()
    }

    @Test func itKnowsItsSize() {
        #expect(StatePageLayout.byteCount(8) == 64 * 5 && StatePageLayout.byteCount(256) == 64 + 4 * 256)
        let offsets = (0..<4).map { StatePageLayout.offset(UInt32($0), 65) }
        #expect(offsets == [64, 192, 320, 448] && StatePageLayout.offset(.max, 65) == 448)
    }
}

private final class Flag: Sendable {
    private let value = Atomic<Bool>(false)
    var isSet: Bool { value.load(ordering: .acquiring) }
    func set() { value.store(true, ordering: .releasing) }
}
