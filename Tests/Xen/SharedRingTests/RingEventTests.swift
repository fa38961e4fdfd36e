// When a side is woken: exactly when it asked to be, and not once more.

import Foundation
import SharedMemory
import SharedRing
import Synchronization
import Testing

@Suite struct RingEventTests {
    /// Nobody armed: the first publication wakes (events begin at 1), the rest do not.
    @Test func anIdleConsumerIsWokenOnce() throws {
        try withEveryRing(slots: [2, 4, 32]) { front, back, slots, _ in
            var notified: [Bool] = []
            for value in 0..<UInt64(slots) {
                expectPush(&front, value, true)
                notified.append(front.publish())
            }
            #expect(notified == [true] + Array(repeating: false, count: Int(slots) - 1))
            let again = front.publish()
            #expect(!again, "nothing new")
            for value in 0..<UInt64(slots) { try expectRequest(&back, value) }
            for _ in 0..<slots { back.push(0) }
            let answered = back.publish()
            #expect(answered, "one for all responses of a publication")
            let counters = (front.counters, back.counters)
            #expect(counters.0.notificationsSent == 1 && counters.0.notificationsSuppressed == UInt64(slots) - 1)
            #expect(counters.1.notificationsSent == 1 && counters.1.notificationsSuppressed == 0)
        }
    }

    /// Every position of an event relative to a publication: woken iff the event lies in what is new.
    @Test func everyEventPosition() throws {
        try withEveryRing(slots: [8]) { front, back, slots, start in
            for batch in 1...UInt32(8) {
                for position in -10...10 {
                    let region = try SharedRegion(anonymous: 4096)
                    var front = FrontRing(initialising: region, Words.slots(8), startingAt: RingIndex(start))
                    let event = start &+ UInt32(truncatingIfNeeded: position)
                    region.storeRelaxed(event, at: RingHeader.requestEvent)
                    for value in 0..<batch { expectPush(&front, UInt64(value), true) }
                    let notify = front.publish()
                    #expect(notify == (position >= 1 && position <= Int(batch)))
                }
            }
        }
    }

    @Test func finalCheckFindsWhatCameBetween() throws {
        try withEveryRing { front, back, slots, _ in
            try expectRequest(&back, nil)
            // The peer publishes between the drain and the arming.
            expectPush(&front, 7, true)
            _ = front.publish()
            let mustLook = back.armAndRecheck()
            #expect(mustLook)
            try expectRequest(&back, 7)
            let nothing = back.armAndRecheck()
            #expect(!nothing)
            back.push(8)
            _ = back.publish()
            let responseThere = front.armAndRecheck()
            #expect(responseThere)
            try expectResponse(&front, 8)
            let none = front.armAndRecheck()
            #expect(!none)
            // Armed: the next one wakes.
            expectPush(&front, 9, true)
            let wakes = front.publish()
            #expect(wakes)
        }
    }

    /// A frontend that wants to be woken for several responses at once is woken when they are there, and told if they
    /// are already.
    @Test func armingForSeveral() throws {
        try withEveryRing(slots: [8, 32]) { front, back, slots, _ in
            for wanted in 1...slots {
                for value in 0..<UInt64(slots) { expectPush(&front, value, true) }
                _ = front.publish()
                for value in 0..<UInt64(slots) { try expectRequest(&back, value) }
                let already = front.armAndRecheck(for: wanted)
                #expect(!already)
                for count in 1...slots {
                    back.push(UInt64(count))
                    let notify = back.publish()
                    #expect(notify == (count == wanted))
                    let there = front.armAndRecheck(for: wanted)
                    #expect(there == (count >= wanted))
                    if count < wanted { continue }
                }
                for count in 1...slots { try expectResponse(&front, UInt64(count)) }
            }
            // More than is outstanding would never come.
            expectPush(&front, 1, true)
            _ = front.publish()
            _ = front.armAndRecheck(for: 1000)
            try expectRequest(&back, 1)
            back.push(2)
            let notify = back.publish()
            #expect(notify)
        }
    }

    /// One side publishes while the other arms, at the same moment, again and again: either the publisher is told to
    /// notify or the other finds the request. Without the fences both would look too early, now and then.
    @Test(.timeLimit(.minutes(3)))
    func publishingAgainstArming() throws {
        let region = try SharedRegion(anonymous: 4096)
        var front = FrontRing(initialising: region, Words.slots(4))
        let meeting = Meeting()
        let backend = Thread {
            var back = BackRing(attaching: region, Words.slots(4))
            while meeting.meet() {
                meeting.found.store(back.armAndRecheck(), ordering: .relaxed)
                guard meeting.meet() else { return }
                while let request = try? back.nextRequest() { back.push(request) }
                _ = back.publish()
                guard meeting.meet() else { return }
            }
        }
        backend.start()
        defer { meeting.leave() }
        let start = ContinuousClock.now
        var lost = 0, rounds = 0
        while ContinuousClock.now - start < .seconds(3) {
            expectPush(&front, 1, true)
            guard meeting.meet() else { break }
            let notify = front.publish()
            guard meeting.meet() else { break }
            if !notify && !meeting.found.load(ordering: .relaxed) { lost += 1 }
            guard meeting.meet() else { break }
            while try front.nextResponse() != nil {}
            rounds += 1
        }
        #expect(lost == 0, "in \(rounds) rounds")
        #expect(rounds > 100)
    }

    /// Two threads that sleep whenever there is nothing: a lost wake-up would show as a time-out.
    @Test(.timeLimit(.minutes(2)))
    func noWakeUpIsLost() async throws {
        let region = try SharedRegion(anonymous: 4096)
        let total: UInt64 = 200_000
        let front = FrontRing(initialising: region, Words.slots(4), startingAt: RingIndex(0 &- 70_000))
        let outcome = Outcome()
        let doorbells = (toBack: DispatchSemaphore(value: 0), toFront: DispatchSemaphore(value: 0))
        let backend = Thread { serve(region, total, doorbells.toBack, doorbells.toFront, outcome) }
        backend.start()
        let sum = try ask(front, total, doorbells.toBack, doorbells.toFront, outcome)
        #expect(outcome.timeouts.load(ordering: .relaxed) == 0)
        #expect(sum == (0..<total).reduce(0) { $0 &+ $1 &* 3 })
        let events = outcome.notifications.load(ordering: .relaxed)
        #expect(events < Int(total) * 2, "\(events) notifications for \(total) requests each way")
    }
}

/// A place where two threads wait for each other, awake, so that they go on at the same moment.
private final class Meeting: Sendable {
    let found = Atomic<Bool>(false)
    private let arrived = Atomic<Int>(0)
    private let isOver = Atomic<Bool>(false)

    /// Waits for the other; false once one has left.
    func meet() -> Bool {
        let place = arrived.wrappingAdd(1, ordering: .acquiringAndReleasing).oldValue
        let both = place / 2 * 2 + 2
        var spins = 0
        while arrived.load(ordering: .acquiring) < both {
            if isOver.load(ordering: .relaxed) { return false }
            spins += 1
            if spins % 4096 == 0 { sched_yield() }
        }
        return true
    }
    func leave() { isOver.store(true, ordering: .relaxed) }
}

private final class Outcome: Sendable {
    let timeouts = Atomic<Int>(0)
    let notifications = Atomic<Int>(0)

    /// Sleeps until the doorbell rings; false if it does not.
    func sleep(_ doorbell: DispatchSemaphore) -> Bool {
        if doorbell.wait(timeout: .now() + 10) == .success { return true }
        timeouts.wrappingAdd(1, ordering: .relaxed)
        return false
    }
    func ring(_ doorbell: DispatchSemaphore) {
        notifications.wrappingAdd(1, ordering: .relaxed)
        doorbell.signal()
    }
}

private func serve(
    _ region: SharedRegion, _ total: UInt64, _ mine: DispatchSemaphore, _ theirs: DispatchSemaphore, _ outcome: Outcome
) {
    var ring = BackRing(attaching: region, Words.slots(4), startingAt: RingIndex(0 &- 70_000))
    var served: UInt64 = 0
    while served < total {
        while let request = try? ring.nextRequest() {
            ring.push(request &* 3)
            served += 1
            if served % 3 == 0, ring.publish() { outcome.ring(theirs) }
        }
        if ring.publish() { outcome.ring(theirs) }
        if served < total, !ring.armAndRecheck(), !outcome.sleep(mine) { return }
    }
}

private func ask(
    _ ring: consuming FrontRing<Words>, _ total: UInt64, _ theirs: DispatchSemaphore, _ mine: DispatchSemaphore, _ outcome: Outcome
) throws -> UInt64 {
    var asked: UInt64 = 0, answered: UInt64 = 0, sum: UInt64 = 0
    while answered < total {
        while asked < total, ring.push(asked) { asked += 1 }
        if ring.publish() { outcome.ring(theirs) }
        while let response = try ring.nextResponse() {
            sum &+= response
            answered += 1
        }
        if answered < total, ring.freeSlots == 0 || asked == total, !ring.armAndRecheck(), !outcome.sleep(mine) { break }
    }
    return sum
}
