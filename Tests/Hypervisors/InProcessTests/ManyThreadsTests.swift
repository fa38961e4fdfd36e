// What several threads do to one host at once: its lock is taken in one place, by one call at a time, and let go on
// every way out.

import Hypervisor
import InProcess
import LinuxSystem
import Synchronization
import Testing
import TestSupport
import XenTypes

@Suite(.timeLimit(.minutes(1))) struct ManyThreadsTests {
    let host = InProcessHost(time: .system)

    /// Runs both at once, and waits for them.
    private func together(_ first: @escaping @Sendable () -> Void, _ second: @escaping @Sendable () -> Void) throws {
        let threads = try [WorkerThread(name: "first", first), WorkerThread(name: "second", second)]
        for thread in threads { thread.join() }
    }

    /// Each maps what the other grants, and copies from it: whatever is locked for two domains is locked in both
    /// orders.
    @Test func GT14_twoDomainsThatReachForEachOther() throws {
        let one = host.domain(1), two = host.domain(2)
        let before = host.usage
        let ofOne = try one.offerPages(2, to: DomainID(2), access: .readWrite)
        let ofTwo = try two.offerPages(2, to: DomainID(1), access: .readWrite)
        let (references, others) = (ofOne.references, ofTwo.references)
        let done = Atomic<Int>(0)
        try together {
            for _ in 0..<300 {
                guard let grants = try? one.mapGrants(others, of: DomainID(2), access: .readWrite) else { return }
                one.unmapGrants(grants)
                done.add(1, ordering: .relaxed)
            }
        } _: {
            for _ in 0..<300 {
                guard let grants = try? two.mapGrants(references, of: DomainID(1), access: .readWrite) else { return }
                two.unmapGrants(grants)
                done.add(1, ordering: .relaxed)
            }
        }
        #expect(done.load(ordering: .relaxed) == 600)
        #expect(ofOne.withdraw() && ofTwo.withdraw())
        #expect(host.usage == before)
    }

    /// Ports come and go under the eyes of who binds to any number: what it gets works, or is refused.
    @Test func EV5_EV9_aPortIsSeenWholeOrNotAtAll() throws {
        let front = host.domain(1), back = host.domain(0)
        let before = host.usage.ports
        let isOver = Atomic<Bool>(false), whole = Atomic<Int>(0), broken = Atomic<Int>(0)
        try together {
            for _ in 0..<200 {
                let some = (0..<8).compactMap { _ in try? front.allocateChannel(for: .zero) }
                for channel in some { channel.notify() }
                for channel in some { channel.close() }
            }
            isOver.store(true, ordering: .relaxed)
        } _: {
            var number: UInt32 = 0
            while !isOver.load(ordering: .relaxed) {
                number = number % 64 + 1
                guard let bound = try? back.bindChannel(remote: DomainID(1), port: EventPort(number)) else { continue }
                // Pending from its first moment, with a descriptor that says so.
                if bound.acknowledge() { whole.add(1, ordering: .relaxed) } else { broken.add(1, ordering: .relaxed) }
                bound.close()
            }
        }
        #expect(broken.load(ordering: .relaxed) == 0)
        #expect(host.usage.ports == before)
    }

    /// After every refusal another thread's call is served: the refused one took nothing along.
    @Test func GT24_CL7_everyRefusalLetsGoOfTheLock() throws {
        let front = host.domain(1), back = host.domain(0)
        let offer = try front.offerPages(1, to: .zero, access: .readOnly)
        let references = offer.references
        let before = host.usage
        let refused: [@Sendable () throws -> Void] = [
            { _ = try back.mapGrants(references, of: DomainID(1), access: .readWrite) },
            { _ = try back.mapGrants([GrantReference(3)], of: DomainID(1), access: .readOnly) },
            { _ = try back.mapGrants([GrantReference(4000)], of: DomainID(1), access: .readOnly) },
            { _ = try back.mapGrants(references, of: DomainID(9), access: .readOnly) },
            { _ = try back.mapGrants(references, of: .myself, access: .readOnly) },
            { _ = try front.mapGrants(references, of: DomainID(1), access: .readOnly) },
            { _ = try front.offerPages(0, to: .zero, access: .readWrite) },
            { _ = try front.offerPages(1 << 24, to: .zero, access: .readWrite) },
            { _ = try back.bindChannel(remote: DomainID(1), port: EventPort(77)) },
            { _ = try back.bindChannel(remote: DomainID(9), port: EventPort(1)) },
        ]
        for (number, call) in refused.enumerated() {
            #expect(throws: HypervisorError.self, "\(number)") { try call() }
            let served = Atomic<Bool>(false)
            let other = try WorkerThread(name: "other") {
                guard let grants = try? back.mapGrants(references, of: DomainID(1), access: .readOnly) else { return }
                back.unmapGrants(grants)
                served.store(true, ordering: .releasing)
            }
            #expect(eventually(2000) { served.load(ordering: .acquiring) }, "\(number)")
            other.join()
        }
        #expect(host.usage == before)
    }
}
