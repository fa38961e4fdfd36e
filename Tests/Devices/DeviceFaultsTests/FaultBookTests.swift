// When faults strike: by their seeds alone, as often as was said, for what was meant.

import DeviceFaults
import Synchronization
import Testing

@Suite("books of faults") struct FaultBookTests {
    private func plan(_ kind: DeviceFault, _ change: (inout FaultPlan) -> Void = { _ in }) -> FaultPlan {
        var plan = FaultPlan(kind)
        change(&plan)
        return plan
    }

    @Test("the same seed strikes at the same occasions, another at others") func seeds() throws {
        func pattern(_ seed: UInt64) throws -> [UInt64?] {
            let book = FaultBook(.block, .back)
            _ = try book.set(
                plan(.dropEvent) {
                    $0.every = 4; $0.seed = seed
                })
            return (0..<400).map { _ in book.strike(.dropEvent)?.random }
        }
        let first = try pattern(1)
        #expect(try pattern(1) == first)
        #expect(try pattern(2) != first)
        // One in four on the average: 100 of 400, give or take five deviations.
        #expect((55...145).contains(first.count { $0 != nil }))
    }

    @Test("a count ends it, and what is listed says so") func counts() throws {
        let book = FaultBook(.block, .back)
        #expect(
            try book.set(
                plan(.dropEvent) {
                    $0.count = 3; $0.seed = 9
                }) == "drop-event")
        #expect((0..<10).count { _ in book.strike(.dropEvent) != nil } == 3)
        #expect(book.records.map(\.struck) == [3] && book.records.map(\.left) == [0])
        #expect(book.records[0].words == ["drop-event", "drop-event", "back", "-", "3", "0", "9"])
        #expect(!book.isEmpty)
    }

    @Test("what ends a connection happens once unless it is said how often") func once() throws {
        for (subject, kind, left) in [
            (FaultSubject.block, DeviceFault.corruptIndex, UInt64?.some(1)), (.block, .corruptID, 1), (.block, .duplicate, 1),
            (.block, .stall, 1),
            (.network, .duplicate, nil), (.block, .delay, nil), (.block, .corruptStatus, nil),
        ] {
            let book = FaultBook(subject, .back)
            _ = try book.set(plan(kind))
            #expect(book.records[0].left == left, "\(kind)")
        }
    }

    @Test("requests are struck that are meant") func meant() throws {
        let book = FaultBook(.block, .back)
        _ = try book.set(
            plan(.error) {
                $0.operations = [.write]; $0.sectors = 8...15
            })
        func strikes(_ operation: FaultOperation, _ sectors: Range<UInt64>?) -> Bool {
            !book.strikes([.error], on: operation, sectors: sectors).isEmpty
        }
        #expect(strikes(.write, 8..<9) && strikes(.write, 15..<16) && strikes(.write, 0..<9) && strikes(.write, 0..<100))
        #expect(!strikes(.write, 0..<8) && !strikes(.write, 16..<17) && !strikes(.read, 8..<9) && !strikes(.write, nil))
        #expect(book.records[0].struck == 4)
    }

    @Test("a direction is asked where there are two") func toward() throws {
        let book = FaultBook(.network, .back)
        _ = try book.set(plan(.drop) { $0.toward = .front })
        #expect(book.strikes([.drop], toward: .back).isEmpty && !book.strikes([.drop], toward: .front).isEmpty)
    }

    @Test("names: after the kind, numbered, one's own; set and undone by them") func names() throws {
        let book = FaultBook(.block, .back)
        #expect(try book.set(plan(.delay)) == "delay")
        #expect(try book.set(plan(.delay)) == "delay-2")
        #expect(try book.set(plan(.error) { $0.name = "mine" }) == "mine")
        #expect(throws: FaultError.nameTaken("mine")) { try book.set(plan(.delay) { $0.name = "mine" }) }
        #expect(throws: FaultError.noSuchName("yours", set: ["delay", "delay-2", "mine"])) { try book.clear("yours") }
        #expect(try book.clear("delay-2").map(\.plan.name) == ["delay-2"])
        #expect(book.records.map(\.plan.name) == ["delay", "mine"])
        #expect(try book.clear("all").count == 2)
        #expect(book.isEmpty)
        // None to undo is no mistake of whoever undoes all.
        #expect(try book.clear("all").isEmpty)
    }

    @Test("who watches is told of each change, and of none later") func watching() throws {
        let book = FaultBook(.block, .back)
        let seen = Mutex<[Bool]>([])
        book.watch(book) { [weak book] in seen.withLock { $0.append(book?.isEmpty ?? true) } }
        _ = try book.set(plan(.delay))
        _ = try book.clear("delay")
        #expect(throws: FaultError.self) { try book.clear("delay") }
        book.unwatch(book)
        _ = try book.set(plan(.delay))
        #expect(seen.withLock { $0 } == [false, true])
    }

    @Test("a side takes its own kinds only, and so many") func bounds() throws {
        let book = FaultBook(.block, .front)
        #expect(throws: FaultError.unknownKind("error", .block, .front)) { try book.set(plan(.error)) }
        for _ in 0..<32 { _ = try book.set(plan(.delay)) }
        #expect(throws: FaultError.tooMany(32)) { try book.set(plan(.delay)) }
    }
}
