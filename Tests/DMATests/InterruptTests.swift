// Interrupts as counters, several vectors to a device, by each kind of route.

import CLinux
import FrameMaps
import Glibc
import LinuxSystem
import Synchronization
import Testing

@testable import DMA

@Suite(.timeLimit(.minutes(1)))
struct InterruptTests {
    private func read(_ descriptor: Descriptor) -> UInt64? { KernelEvents.take(descriptor) }

    @Test func vectorsLeadWhereTheyAreRouted() throws {
        let routing = InterruptRouting()
        let (first, second) = (Descriptor(owning: causeway_eventfd()), Descriptor(owning: causeway_eventfd()))
        let rung = Box()
        let vectors = (0..<3).map { InterruptVector(device: "d", number: $0) }
        routing.route(vectors[0], to: .eventfd(first))
        routing.route(vectors[1], to: .eventfd(second))
        routing.route(vectors[2], to: .channel { rung.count.wrappingAdd(1, ordering: .relaxed) })
        for _ in 0..<5 { #expect(routing.raise(vectors[0])) }
        #expect(routing.raise(vectors[2]))
        #expect(read(first) == 5 && read(second) == nil && rung.count.load(ordering: .relaxed) == 1)
        #expect(!routing.raise(InterruptVector(device: "d", number: 9)))
        #expect(!routing.raise(InterruptVector(device: "e", number: 0)))
        #expect(!routing.route(InterruptVector(device: "d", number: 2048), to: .none))
        // Routed anew while it runs.
        routing.route(vectors[0], to: .eventfd(second))
        #expect(routing.raise(vectors[0]) && read(first) == nil && read(second) == 1)
        #expect(routing.counts(vectors[0]) == InterruptCounts(raised: 6, delivered: 6, merged: 0, failed: 0))
        routing.remove(device: "d")
        #expect(routing.vectorCount == 0 && !routing.raise(vectors[0]))
    }

    /// Raised while masked, or before there is a route: one is kept, none is lost.
    @Test func maskedVectorsKeepOne() throws {
        let routing = InterruptRouting()
        let event = Descriptor(owning: causeway_eventfd())
        let vector = InterruptVector(device: "d", number: 0)
        routing.route(vector, to: .none)
        #expect(routing.raise(vector))
        routing.route(vector, to: .eventfd(event))
        #expect(read(event) == 1)
        routing.mask(vector)
        for _ in 0..<3 { #expect(routing.raise(vector)) }
        #expect(read(event) == nil)
        routing.unmask(vector)
        #expect(read(event) == 1)
        routing.unmask(vector)
        #expect(read(event) == nil)
        #expect(routing.counts(vector) == InterruptCounts(raised: 4, delivered: 2, merged: 2, failed: 0))
    }

    /// A message raises the vector that it was made for, and only when its own device writes it.
    @Test func messages() throws {
        let routing = InterruptRouting()
        let event = Descriptor(owning: causeway_eventfd())
        let (ours, theirs) = (InterruptVector(device: "d", number: 1), InterruptVector(device: "e", number: 1))
        #expect(routing.message(for: ours) == nil)
        routing.route(ours, to: .eventfd(event))
        routing.route(theirs, to: .none)
        let message = try #require(routing.message(for: ours))
        let other = try #require(routing.message(for: theirs))
        #expect(message != other && routing.message(for: ours) == message)
        #expect(routing.receive(message, from: "d") && read(event) == 1)
        #expect(!routing.receive(message, from: "e"))
        #expect(!routing.receive(InterruptMessage(address: message.address, data: 999), from: "d"))
        #expect(!routing.receive(InterruptMessage(address: BusAddress(rawValue: 0), data: message.data), from: "d"))
        #expect(read(event) == nil && routing.unknownMessages == 3)
        routing.remove(device: "d")
        #expect(!routing.receive(message, from: "d"))
    }
}

private final class Box: Sendable { let count = Atomic<Int>(0) }
