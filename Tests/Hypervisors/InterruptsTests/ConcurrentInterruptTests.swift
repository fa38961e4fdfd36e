// Raised by many threads at once, masked and routed elsewhere meanwhile: the sum is right, and nobody who waits sleeps
// for ever.

import CLinux
import Glibc
import LinuxSystem
import Synchronization
import Testing

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

    private final class Counter: InterruptMessagePort {
        let tally: Tally
        init(_ tally: Tally) { self.tally = tally }
        func send(_ message: InterruptMessage) { tally.rings.add(1, ordering: .acquiringAndReleasing) }
    }
}
