// A ring's interrupts: where they go, and that none is lost when that changes.

import LinuxSystem
import Testing

@testable import VirtioInterrupts

@Suite struct RingVectorsTests {
    @Test func eachRingRingsItsOwn() throws {
        let vectors = RingVectors(device: "disk", rings: 2)
        let calls = try (0..<2).map { _ in try EventCounter() }
        for ring in 0..<2 { vectors.route(ring, to: calls[ring].descriptor) }
        let line = try #require(vectors.line(1))
        for _ in 0..<3 { line.raise() }
        #expect(calls[0].descriptor.takeCount() == 0 && calls[1].descriptor.takeCount() == 3)
        #expect(vectors.line(2) == nil && vectors.line(-1) == nil)
    }

    /// Raised while nobody wanted to know, and before another descriptor came: told there, and nowhere else.
    @Test func whatWasNotToldIsToldToTheNext() throws {
        let vectors = RingVectors(device: "disk", rings: 1)
        let (first, second) = (try EventCounter(), try EventCounter())
        let line = try #require(vectors.line(0))
        vectors.route(0, to: first.descriptor)
        vectors.silence(0)
        line.raise()
        line.raise()
        #expect(vectors.pending(0) == 2 && first.descriptor.takeCount() == 0)
        vectors.route(0, to: second.descriptor)
        #expect(second.descriptor.takeCount() == 2 && vectors.pending(0) == 0 && first.descriptor.takeCount() == 0)
    }

    /// A driver that lets its counter fill up is told again when there is room.
    @Test func aFullCounterKeepsWhatItCannotTake() throws {
        let vectors = RingVectors(device: "disk", rings: 1)
        let call = try EventCounter()
        vectors.route(0, to: call.descriptor)
        #expect(call.descriptor.addCount(UInt64.max - 1))
        let line = try #require(vectors.line(0))
        line.raise()
        #expect(vectors.pending(0) == 1)
        #expect(call.descriptor.takeCount() == UInt64.max - 1)
        line.raise()
        #expect(call.descriptor.takeCount() == 2 && vectors.pending(0) == 0)
    }

    /// What is silenced keeps no descriptor.
    @Test func aSilencedRingLetsItsDescriptorGo() throws {
        let vectors = RingVectors(device: "disk", rings: 1)
        weak var held: Descriptor?
        do {
            let call = try EventCounter()
            held = call.descriptor
            vectors.route(0, to: call.descriptor)
        }
        #expect(held != nil)
        vectors.silence(0)
        #expect(held == nil)
    }
}
