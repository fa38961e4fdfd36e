// The gate before an eventfd: who has shut it may close the eventfd, for nobody writes to its number any more.

@testable import LinuxSystem
import Synchronization
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(2))) struct BellGateTests {
    @Test("a shut gate lets nobody through, an open one everybody, and a full eventfd is said to be full")
    func states() throws {
        let counter = try EventCounter().descriptor
        let gate = BellGate()
        #expect(gate.pass() == nil)
        gate.open(to: counter)
        for _ in 0..<3 { #expect(gate.pass() == .told) }
        #expect(counter.takeCount() == 3)
        #expect(counter.addCount(UInt64.max - 1))
        #expect(gate.pass() == .full)
        gate.turnAway()
        #expect(gate.pass() == nil)
        gate.open(to: counter)
        gate.shut()
        gate.shut()
        #expect(gate.pass() == nil && counter.takeCount() == UInt64.max - 1)
    }

    @Test("shutting it waits for whoever is inside: a write that is held is over before, and tells nothing after")
    func shuttingWaits() throws {
        var seen = 0
        for _ in 0..<20 where seen < 3 {
            let counter = try EventCounter().descriptor
            #expect(counter.addCount(UInt64.max - 1))
            try counter.setNonBlocking(false)
            let writer = Writer(counter)
            let thread = try WorkerThread(name: "writer", blocksSignals: true) { writer.write() }
            #expect(eventually(5000) { writer.isThere.load(ordering: .acquiring) })
            sleepMilliseconds(2)
            let isInside = !writer.isOut.load(ordering: .acquiring)
            writer.gate.shut()
            // Room for a write that was still held: it would go on.
            #expect(counter.takeCount() == UInt64.max - 1)
            thread.join()
            #expect(writer.outcome.withLock { $0 } != .told && counter.takeCount() == 0)
            if isInside, writer.outcome.withLock({ $0 }) == .blocked { seen += 1 }
        }
        #expect(seen == 3)
    }
}

private final class Writer: Sendable {
    let gate = BellGate()
    let isThere = Atomic<Bool>(false)
    let isOut = Atomic<Bool>(false)
    let outcome = Mutex<BellOutcome?>(nil)

    init(_ counter: Descriptor) { gate.open(to: counter) }

    func write() {
        isThere.store(true, ordering: .releasing)
        let told = gate.pass()
        isOut.store(true, ordering: .releasing)
        outcome.withLock { $0 = told }
    }
}
