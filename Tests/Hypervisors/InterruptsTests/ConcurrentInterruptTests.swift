// Raised by many threads at once, masked and routed elsewhere meanwhile: the sum is right, and nobody who waits sleeps
// for ever.

import CLinux
import Glibc
import Hypervisor
import InProcess
import LinuxSystem
import Synchronization
import Testing
import XenTypes

@testable import Interrupts

private final class Tally: Sendable {
    let taken = Atomic<UInt64>(0)
    let running = Atomic<Int>(0)
    let rings = Atomic<UInt64>(0)
}

private final class Bell: InterruptMessagePort {
    let pipe: WakePipe
    init() throws { pipe = try WakePipe() }
    func send(_ message: InterruptMessage) { signalPipe(pipe.writer) }
}

private func threads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) throws -> [WorkerThread] {
    try (0..<count).map { index in try WorkerThread(name: "raise-\(index)") { body(index) } }
}

@Suite(.timeLimit(.minutes(1)))
struct ConcurrentInterruptTests {
    private static let each = 10_000

    /// The consumer sleeps until it is rung and takes: every interrupt is seen, also the last ones.
    @Test func takenByASleeper() throws {
        let table = InterruptTable()
        let (vectors, source) = try table.attach(device: "d", vectors: 1)
        let bell = try Bell()
        try vectors.route(0, to: .message(InterruptMessage(address: 0, data: 0), to: bell))
        let raisers = try threads(3) { _ in for _ in 0..<Self.each { source.raise(0) } }
        var sum: UInt64 = 0, rings = 0
        while sum < UInt64(3 * Self.each) {
            // A ring that was lost would leave this waiting for ever.
            guard try waitReadable(bell.pipe.reader.rawValue, milliseconds: 5000) else {
                Issue.record("asleep with \(try vectors.pending(0)) to take")
                break
            }
            drainPipe(bell.pipe.reader)
            sum += try vectors.take(0)
            rings += 1
        }
        for raiser in raisers { raiser.join() }
        #expect(sum == UInt64(3 * Self.each) && rings <= 3 * Self.each)
    }

    /// Three vectors with a target each, one thread that masks and unmasks, one that routes elsewhere and back.
    @Test func maskedAndRoutedMeanwhile() throws {
        let table = InterruptTable()
        let (vectors, source) = try table.attach(device: "d", vectors: 3)
        let bells = [try Bell(), try Bell()]
        let events = (0..<2).map { _ in Descriptor(owning: causeway_eventfd()) }
        let tally = Tally()
        tally.running.store(3, ordering: .relaxed)
        let raisers = try threads(3) { index in
            for round in 0..<Self.each { source.raise(UInt32((round + index) % 3)) }
            tally.running.subtract(1, ordering: .releasing)
        }
        let masker = try threads(1) { _ in
            while tally.running.load(ordering: .acquiring) > 0 {
                for vector in 0..<3 { try? vectors.mask(vector) }
                yieldProcessor()
                for vector in 0..<3 { try? vectors.unmask(vector) }
            }
        }
        let router = try threads(1) { _ in
            var round = 0
            while tally.running.load(ordering: .acquiring) > 0 {
                try? vectors.route(round % 3, to: .eventDescriptor(events[round & 1]))
                try? vectors.route(round % 3, to: .message(InterruptMessage(address: 0, data: 0), to: bells[round & 1]))
                round += 1
            }
        }
        let taker = try threads(1) { _ in
            while tally.running.load(ordering: .acquiring) > 0 {
                for vector in 0..<3 { tally.taken.add((try? vectors.take(vector)) ?? 0, ordering: .relaxed) }
            }
        }
        for thread in raisers + masker + router + taker { thread.join() }
        var sum = tally.taken.load(ordering: .relaxed)
        for vector in 0..<3 {
            try vectors.unmask(vector)
            sum += try vectors.take(vector)
        }
        for event in events {
            var count: UInt64 = 0
            if Glibc.read(event.rawValue, &count, 8) == 8 { sum += count }
        }
        #expect(sum == UInt64(3 * Self.each))
    }

    /// All routes replaced at once, over and over, while queues that share vectors raise them: every interrupt is in
    /// one of the two tables' descriptors, and the one who replaced last is the one whose routes are there.
    @Test func replacedAsAWholeMeanwhile() throws {
        let (vectors, source) = try InterruptTable().attach(device: "d", vectors: 4)
        let tables = (0..<2).map { _ in (0..<4).map { _ in Descriptor(owning: causeway_eventfd()) } }
        let tally = Tally()
        tally.running.store(3, ordering: .relaxed)
        try vectors.route(all: tables[0].map { .eventDescriptor($0) })
        let lines = try (0..<4).map { try source.line(UInt32($0)) }
        let raisers = try threads(3) { index in
            for round in 0..<Self.each { lines[(round + index) % 4].raise() }
            tally.running.subtract(1, ordering: .releasing)
        }
        let routers = try threads(2) { index in
            while tally.running.load(ordering: .acquiring) > 0 {
                try? vectors.route(all: tables[index].map { .eventDescriptor($0) })
            }
        }
        for thread in raisers + routers { thread.join() }
        var sums = tables.map { $0.map { read($0) } }
        #expect(sums.joined().reduce(0, +) == UInt64(3 * Self.each))
        // No mixture of the two.
        for line in lines { line.raise() }
        sums = tables.map { $0.map { read($0) } }
        #expect(sums == [[1, 1, 1, 1], [0, 0, 0, 0]] || sums == [[0, 0, 0, 0], [1, 1, 1, 1]])
    }

    /// A peer's channel while several raise: whoever acknowledges and then looks sees all that came before.
    @Test func aPeerThatSleepsMissesNothing() throws {
        let host = InProcessHost(time: .system)
        let theirs = try host.domain(1).allocateChannel(for: .zero)
        let ours = try host.domain(0).bindChannel(remote: DomainID(1), port: theirs.port)
        let (vectors, source) = try InterruptTable().attach(device: "d", vectors: 1)
        try vectors.route(0, to: .peer(ours))
        let line = try source.line(0)
        let tally = Tally()
        let raisers = try threads(3) { _ in
            for _ in 0..<Self.each {
                tally.rings.add(1, ordering: .releasing)
                line.raise()
            }
        }
        while tally.rings.load(ordering: .acquiring) < 3 * Self.each || tally.taken.load(ordering: .relaxed) < 3 * Self.each {
            guard try waitReadable(theirs.descriptor.rawValue, milliseconds: 10_000) else {
                Issue.record("asleep after \(tally.taken.load(ordering: .relaxed)) of \(tally.rings.load(ordering: .acquiring))")
                break
            }
            theirs.acknowledge()
            theirs.unmask()
            tally.taken.store(tally.rings.load(ordering: .acquiring), ordering: .relaxed)
        }
        for raiser in raisers { raiser.join() }
    }

    /// After `mask` and after `detach` have returned, nothing is delivered, whoever is still raising.
    @Test func quietAfterMaskAndDetach() throws {
        let table = InterruptTable()
        for round in 0..<40 {
            let (vectors, source) = try table.attach(device: "d", vectors: 1)
            let tally = Tally()
            let counter = Counter(tally)
            try vectors.route(0, to: .message(InterruptMessage(address: 0, data: 0), to: counter))
            tally.running.store(1, ordering: .releasing)
            let raiser = try threads(1) { _ in
                while tally.running.load(ordering: .acquiring) == 1 {
                    source.raise(0)
                    _ = try? vectors.take(0)
                }
            }
            if round % 2 == 0 { try vectors.mask(0) } else { vectors.detach() }
            let seen = tally.rings.load(ordering: .acquiring)
            for _ in 0..<5 { yieldProcessor() }
            #expect(tally.rings.load(ordering: .acquiring) == seen)
            tally.running.store(0, ordering: .releasing)
            raiser[0].join()
            vectors.detach()
        }
        #expect(table.deviceCount == 0)
    }

    /// The same of an eventfd, which is written past the lock: who was inside when the mask came has left by its
    /// return.
    @Test func anEventDescriptorIsQuietAfterMask() throws {
        let (vectors, source) = try InterruptTable().attach(device: "d", vectors: 1)
        let event = Descriptor(owning: causeway_eventfd())
        try vectors.route(0, to: .eventDescriptor(event))
        let line = try source.line(0)
        let tally = Tally()
        tally.running.store(1, ordering: .releasing)
        let raisers = try threads(4) { _ in while tally.running.load(ordering: .acquiring) == 1 { line.raise() } }
        var late: UInt64 = 0
        for _ in 0..<150 {
            try vectors.mask(0)
            _ = read(event)
            for _ in 0..<3 { yieldProcessor() }
            late += read(event)
            try vectors.unmask(0)
            yieldProcessor()
        }
        tally.running.store(0, ordering: .releasing)
        for raiser in raisers { raiser.join() }
        #expect(late == 0)
    }

    private final class Counter: InterruptMessagePort {
        let tally: Tally
        init(_ tally: Tally) { self.tally = tally }
        func send(_ message: InterruptMessage) { tally.rings.add(1, ordering: .acquiringAndReleasing) }
    }
}
