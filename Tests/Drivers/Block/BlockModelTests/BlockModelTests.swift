// What the model promises, one thing at a time; no ring, no grant, no thread.

import BlockDevices
import BlockModel
import DMA
import LinuxSystem
import TestSupport
import Testing

/// A model and its disk. A class, because a noncopyable value cannot be looked into by an expectation.
private final class Bench {
    private var model: BlockModel<ScriptedTransport>
    let disk: HeldDisk
    let clock = ManualClock()

    /// With these requests, taken.
    init(_ asked: [Asked], capacity: Int = 8, immediate: @escaping (AtDisk) -> DeviceResult? = { _ in nil }) {
        var transport = ScriptedTransport()
        transport.asked = asked
        disk = HeldDisk(transport.names)
        disk.immediate = immediate
        model = BlockModel(transport, disk: disk, capacity: capacity, segments: 4, time: clock)
        take()
    }

    var atDisk: [Int] { disk.held.map(\.id) }
    var operations: [DeviceOperation] { disk.held.map(\.operation) }
    var answered: [Answered] { model.transport.answered }
    var withdrawn: OptionalOperations { model.transport.withdrawn }
    var inWork: Int { model.inWork }
    var isOpen: Bool { model.isOpen }
    var fault: BrokenRing? { model.fault }
    var statistics: BlockModelStatistics { model.statistics }
    func hasWork() -> Bool { model.hasWork() }
    /// Answers that the peer sees.
    var shown: Int { model.transport.published }
    /// Whether the last turn said that the peer must be notified.
    private(set) var mustNotify = false
    func publish() -> Bool { model.publish() }
    func takeWithdrawn() -> OptionalOperations { model.takeWithdrawn() }
    func close() { model.close() }

    func ask(_ asked: [Asked], thenBreak: Bool = false) {
        model.transport.asked = asked
        model.transport.breaksAtEnd = thenBreak
    }

    @discardableResult func take() -> [Int] {
        let (taken, rejected, mustNotify) = model.takeRequests()
        self.mustNotify = mustNotify
        return [taken, rejected]
    }

    /// Ends the oldest operation at the disk, as often as said.
    func end(_ result: DeviceResult = .done, times: Int = 1) {
        let tag = disk.release(0).tag
        for _ in 0..<times { model.ended(tag: tag, result) }
    }

    func endUnknown() { model.ended(tag: 4000, .done) }
}

@Suite struct BlockModelTests {
    private func write(_ id: Int, _ ordering: WorkOrdering = .none, reach: Reach = .now) -> Asked {
        Asked(id: id, work: BlockWork(.write(offset: UInt64(id) << 12), ordering: ordering, byteCount: 4096), reach: reach)
    }

    @Test func aBarrierFlushesBeforeAndAfterItsData_andHoldsBackWhatFollows() {
        let bench = Bench([write(0), write(1, .barrier), write(2)])
        #expect(bench.atDisk == [0])
        #expect(!bench.hasWork(), "behind a barrier nothing is taken")
        bench.end()
        #expect(bench.operations == [.flush])
        bench.end()
        #expect(bench.operations == [.write(offset: 4096)])
        bench.end()
        #expect(bench.operations == [.flush])
        #expect(bench.answered == [Answered(id: 0, outcome: .done)])
        bench.end()
        #expect(bench.answered.last == Answered(id: 1, outcome: .done))
        #expect(bench.hasWork())
        bench.take()
        #expect(bench.atDisk == [2])
    }

    @Test func aBarrierWhoseWriteIsDurableByItselfIsNotFlushedAfter() {
        let work = BlockWork(.write(offset: 4096, isDurable: true), ordering: .barrier, byteCount: 4096)
        let bench = Bench([write(0), Asked(id: 1, work: work), write(2)])
        bench.end()
        #expect(bench.operations == [.flush])
        bench.end()
        #expect(bench.operations == [.write(offset: 4096, isDurable: true)])
        #expect(!bench.hasWork())
        bench.end()
        #expect(bench.answered.last == Answered(id: 1, outcome: .done))
        #expect(bench.statistics.flushes == 1)
        #expect(bench.hasWork())
    }

    @Test func aFlushThatTheDiskDoesNotKnowIsWithdrawnOnce() {
        let asked = [Asked(id: 0, work: BlockWork(.flush)), write(1, .flushFirst)]
        let bench = Bench(asked) { $0.operation == .flush ? .failed(.notSupported) : nil }
        #expect(bench.answered == [Answered(id: 0, outcome: .unsupported), Answered(id: 1, outcome: .unsupported)])
        #expect(bench.withdrawn == .flush)
        #expect(bench.takeWithdrawn() == .flush)
        #expect(bench.takeWithdrawn() == [])
    }

    @Test func whatTheDiskSaysTwiceIsAnsweredOnce() {
        let bench = Bench([write(0), write(1)])
        bench.end(times: 2)
        bench.endUnknown()
        #expect(bench.answered == [Answered(id: 0, outcome: .done)])
        #expect(bench.inWork == 1)
    }

    @Test func aFailureThatTheDiskSaysTwiceIsAnsweredOnce() {
        let bench = Bench([write(0), write(1)])
        bench.end(.failed(.ioError), times: 2)
        #expect(bench.answered == [Answered(id: 0, outcome: .failed)])
        #expect(bench.inWork == 1)
    }

    @Test func whoWaitsForMemoryIsTriedAgainOnlyWhenSomethingEnded() {
        let bench = Bench([write(0), write(1, reach: .whenFreed), write(2)])
        #expect(bench.atDisk == [0, 2])
        #expect(bench.inWork == 3)
        bench.ask([write(3)])
        #expect(!bench.hasWork(), "nothing new is taken while one waits")
        bench.end()
        #expect(bench.hasWork())
        bench.take()
        #expect(bench.atDisk == [2, 1])
        bench.take()
        #expect(bench.atDisk == [2, 1, 3])
    }

    @Test func aTurnTakesAsManyAsMayBeInWork() {
        let bench = Bench((0..<20).map { write($0) }, capacity: 4) { _ in .done }
        #expect(bench.answered.count == 4)
        #expect(bench.disk.begun.count == 4)
        #expect(bench.take() == [4, 0])
    }

    @Test func nonsenseIsCountedAndABrokenTransportIsLeftAlone() {
        let bench = Bench([])
        bench.ask([Asked(id: 0, work: BlockWork(.flush), isNonsense: true), write(1)], thenBreak: true)
        #expect(bench.take() == [2, 1])
        #expect(bench.fault == BrokenRing())
        #expect(!bench.isOpen)
        #expect(!bench.hasWork())
        #expect(bench.statistics.requests == 2)
        #expect(bench.statistics.rejected == 1)
    }

    @Test func aClosingModelTakesNothingAndEndsWhatItHas() {
        let bench = Bench([write(0)])
        bench.ask([write(1)])
        bench.close()
        #expect(!bench.hasWork())
        bench.end()
        #expect(bench.inWork == 0)
        #expect(bench.answered == [Answered(id: 0, outcome: .done)])
        #expect(bench.publish())
        #expect(!bench.publish())
    }

    @Test func aLongTurnShowsItsAnswersBeforeItIsOver() {
        let bench = Bench((0..<20).map { write($0) }, capacity: 32) { _ in .done }
        #expect(bench.answered.count == 20)
        #expect(bench.shown == 16, "eight at a time; a peer that looks on need not wait for the whole turn")
        #expect(bench.mustNotify)
        #expect(bench.publish())
        #expect(bench.shown == 20)
        bench.ask((20..<27).map { write($0) })
        bench.take()
        #expect(bench.shown == 20 && !bench.mustNotify, "a short turn shows all at its end")
        #expect(bench.publish())
        #expect(bench.shown == 27)
    }

    @Test func aRequestThatIsDroppedUnansweredIsNoticed() async {
        // What no test of answers can show: that forgetting one ends the process, here in one of its own.
        await #expect(processExitsWith: .failure) {
            struct Forgetful: BlockTransport {
                typealias Fault = BrokenRing
                var isTaken = false
                var isStalled: Bool { false }
                mutating func hasRequests() -> Bool { !isTaken }
                mutating func next(in slot: RequestSlot, inFlight: Int) throws(BrokenRing) -> TakenRequest {
                    defer { isTaken = true }
                    return isTaken ? .none : .ready(BlockWork(.flush))
                }
                mutating func nextWaiting(inFlight: Int) -> (slot: RequestSlot, isReachable: Bool)? { nil }
                mutating func reach(
                    _ slot: RequestSlot, _ direction: DMADirection, into segments: inout [BusSegment]
                ) -> Bool { true }
                mutating func answer(_ request: consuming EndedRequest, _ outcome: WorkOutcome) {}
                mutating func withdraw(_ operations: OptionalOperations) {}
                mutating func publish() -> Bool { false }
            }
            let disk = HeldDisk(RequestNames())
            disk.immediate = { _ in .done }
            var model = BlockModel(Forgetful(), disk: disk, capacity: 1, segments: 1, time: ManualClock())
            _ = model.takeRequests()
        }
    }
}
