// A reader that makes its eventfd block after it gave it, and fills it: it holds a writer for a moment, a few times,
// and then no more.

@testable import Interrupts
import LinuxSystem
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(1)))
struct BlockingReaderTests {
    private static let full = UInt64.max - 1
    private let table = InterruptTable()

    /// Raises on a thread of its own; false: the thread is held, and let go by taking the count.
    private func raises(_ source: InterruptSource, _ vector: UInt32 = 0, _ call: Descriptor) throws -> Bool {
        let done = LineCollector()
        let thread = try WorkerThread(name: "device", blocksSignals: true) {
            source.raise(vector)
            done.add("raised")
        }
        let isFree = eventually(3000) { !done.all.isEmpty }
        if !isFree { call.takeCount() }
        thread.join()
        return isFree
    }

    @Test("a write that is held is given up, and what it was to tell is told with the next one that can be", arguments: [1, 2])
    func held(count: Int) throws {
        let call = try EventCounter().descriptor
        let (vectors, source) = try table.attach(device: "d", vectors: 1)
        try vectors.route(0, to: .eventDescriptor(call))
        #expect(call.addCount(Self.full))
        for turn in 1...count {
            try call.setNonBlocking(false)
            #expect(try raises(source, 0, call))
            #expect(try vectors.pending(0) == turn)
        }
        #expect(table.takeFaults().recent.allSatisfy { $0.cause == .blocked })
        #expect(call.takeCount() == Self.full)
        source.raise(0)
        #expect(try call.takeCount() == UInt64(count) + 1 && vectors.pending(0) == 0)
    }

    @Test("of a device that does it again and again no eventfd is written any more, until somebody says so")
    func again() throws {
        let calls = try (0..<2).map { _ in try EventCounter().descriptor }
        let (vectors, source) = try table.attach(device: "d", vectors: 2)
        try vectors.route(all: calls.map { .eventDescriptor($0) })
        for call in calls { #expect(call.addCount(Self.full)) }
        for turn in 0..<4 {
            for call in calls { try call.setNonBlocking(false) }
            #expect(try raises(source, UInt32(turn % 2), calls[turn % 2]))
        }
        let faults = table.takeFaults()
        #expect(faults.recent.map(\.cause) == [.blocked, .blocked, .leftAlone])
        #expect("\(faults.recent[2])" == "d: its eventfds were filled and made to block 3 times, and are written no more")
        // Left alone: nothing is told though there is room.
        for call in calls { #expect(call.takeCount() == Self.full) }
        source.raise(1)
        try vectors.route(0, to: .eventDescriptor(calls[1]))
        #expect(try calls.allSatisfy { $0.takeCount() == 0 } && vectors.pending(0) == 2 && vectors.pending(1) == 3)
        try source.line(1).tell(calls[0])
        #expect(calls[0].takeCount() == 0)
        // Another device's are another matter.
        let (others, other) = try table.attach(device: "e", vectors: 1)
        try others.route(0, to: .eventDescriptor(calls[0]))
        other.raise(0)
        #expect(calls[0].takeCount() == 1)
        vectors.restoreTrust()
        source.raise(1)
        #expect(calls[1].takeCount() == 4)
    }

    @Test("an eventfd that blocks and is at rest is taken without waiting")
    func taken() throws {
        let kick = try EventCounter().descriptor
        try kick.setNonBlocking(false)
        let done = LineCollector()
        let thread = try WorkerThread(name: "reader") { done.add("\(kick.takeCount())") }
        let isFree = eventually(3000) { !done.all.isEmpty }
        if !isFree { kick.addCount(1) }
        thread.join()
        #expect(isFree && done.all == ["0"])
        kick.addCount(3)
        #expect(kick.takeCount() == 3)
    }
}
