// What a ring is signalled by: one source at a time, changed while the ring runs.

import LinuxSystem
import Reactor
import Synchronization
import TestSupport
import Testing

@testable import VirtioInterrupts

/// A queue of nothing but its row.
private final class Listener: ReactorClient, @unchecked Sendable {
    let reactor: Reactor
    var row: InboundRow
    var slot: ReactorSlot?
    let wakes = Atomic<Int>(0)
    let taken = Atomic<UInt64>(0)

    init(_ reactor: Reactor, _ source: InboundRow.Source) {
        self.reactor = reactor
        row = InboundRow(source)
        reactor.run { self.slot = reactor.attach(self) }
    }

    func poll() -> Bool { false }
    func prepareToSleep() -> Bool {
        if let slot { row.arm(reactor, slot) }
        return false
    }
    func completed(tag: UInt32, result: Int32) {
        let before = row.taken
        guard row.completed(tag) else { return }
        wakes.add(1, ordering: .relaxed)
        taken.add(row.taken &- before, ordering: .relaxed)
    }

    func route(from source: InboundRow.Source) { reactor.run { self.row.route(from: source, self.reactor, self.slot) } }
    func end() {
        reactor.run {
            if let slot = self.slot { self.reactor.detach(slot) }
            self.slot = nil
        }
        reactor.stop()
    }
    var sum: UInt64 { taken.load(ordering: .relaxed) }
}

@Suite struct InboundRowTests {
    private func listener(_ source: InboundRow.Source) throws -> Listener {
        let reactor = try Reactor(name: "row", time: .system)
        try reactor.start()
        return Listener(reactor, source)
    }

    @Test("a source that has been replaced wakes nobody any more, and is let go; the new one does")
    func replaced() throws {
        weak var held: Descriptor?
        let second = try EventCounter()
        let listener: Listener
        do {
            let first = try EventCounter()
            held = first.descriptor
            listener = try self.listener(.descriptor(first.descriptor))
            for turn in 1...3 {
                first.ring()
                #expect(eventually(5000) { listener.sum == turn })
            }
            listener.route(from: .descriptor(second.descriptor))
            first.ring()
            sleepMilliseconds(20)
            #expect(listener.sum == 3 && first.descriptor.takeCount() == 1)
        }
        defer { listener.end() }
        #expect(eventually(5000) { held == nil })
        for turn in 4...6 {
            second.ring()
            #expect(eventually(5000) { listener.sum == turn })
        }
    }

    @Test("however often it is replaced, each signal of the source that is there is heard")
    func often() throws {
        let listener = try listener(.nothing)
        defer { listener.end() }
        for turn in 0..<300 {
            let kick = try EventCounter()
            listener.route(from: .descriptor(kick.descriptor))
            kick.ring()
            let isHeard = eventually(5000) { listener.sum == turn + 1 }
            try #require(isHeard, "\(turn)")
            if turn % 7 == 0 { listener.route(from: .messages) }
        }
    }

    @Test("without a source the ring is looked at by the clock; with messages nobody looks")
    func clock() throws {
        let listener = try listener(.nothing)
        defer { listener.end() }
        #expect(eventually(5000) { listener.wakes.load(ordering: .relaxed) > 3 })
        listener.route(from: .messages)
        // One look may have been on its way.
        sleepMilliseconds(20)
        let before = listener.wakes.load(ordering: .relaxed)
        sleepMilliseconds(50)
        #expect(listener.wakes.load(ordering: .relaxed) == before && listener.sum == 0)
    }
}
