// Store-buffer litmus for the doorbell's fences, optimized: one side publishes while the other arms, at the same
// moment. Either the publisher is told to notify, or the other finds the entry; a round in which neither happens is a
// lost wake-up. Debug builds have too many instructions between the store and the load to show a missing fence; this
// shows it within seconds.
//
//     swift run -c release ring-litmus [seconds]      exits 1 if a wake-up was lost

import BlockProtocol
import Glibc
import SharedMemory
import SharedRing
import Synchronization

/// Two threads wait for each other here, awake.
final class Meeting: Sendable {
    let arrived = Atomic<Int>(0)
    let isOver = Atomic<Bool>(false)
    let found = Atomic<Bool>(false)

    func meet() -> Bool {
        let place = arrived.wrappingAdd(1, ordering: .acquiringAndReleasing).oldValue
        let both = place / 2 * 2 + 2
        var spins = 0
        while arrived.load(ordering: .acquiring) < both {
            if isOver.load(ordering: .relaxed) { return false }
            spins += 1
            if spins % 65536 == 0 { sched_yield() }
        }
        return true
    }
}

/// A few nanoseconds, so that the two sides meet in every relative position.
@inline(never) func delay(_ steps: Int) {
    for _ in 0..<steps { atomicMemoryFence(ordering: .acquiring) }
}

struct Sides: Sendable {
    let region: SharedRegion
    let meeting = Meeting()
}

nonisolated func backend(_ sides: Sides) {
    var back = BackRing(attaching: sides.region, BlockRing(.native))
    var request = BlockRequest()
    var rounds = 0
    while sides.meeting.meet() {
        delay(rounds >> 6 & 63)
        rounds += 1
        sides.meeting.found.store(back.armAndRecheck(), ordering: .relaxed)
        guard sides.meeting.meet() else { return }
        while (try? back.nextRequest(into: &request)) == true { back.push(BlockResponse(to: request, status: .okay)) }
        _ = back.publish()
        guard sides.meeting.meet() else { return }
    }
}

final class Box { let sides: Sides; init(_ sides: Sides) { self.sides = sides } }

/// Starts the other side. Not in main(), whose closures belong to the main actor and trap on another thread.
nonisolated func start(_ sides: Sides) -> pthread_t {
    var thread = pthread_t()
    pthread_create(
        &thread, nil,
        { box in
            if let box { backend(Unmanaged<Box>.fromOpaque(box).takeRetainedValue().sides) }
            return nil
        }, Unmanaged.passRetained(Box(sides)).toOpaque())
    return thread
}

@main struct RingLitmus {
    static func main() throws {
        let seconds = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 10
        let sides = Sides(region: try SharedRegion(anonymous: 4096))
        let thread = start(sides)
        var front = FrontRing(initialising: sides.region, BlockRing(.native))
        let end = ContinuousClock.now + .seconds(seconds)
        var lost = 0, rounds = 0
        while rounds % 256 != 0 || ContinuousClock.now < end {
            _ = front.push(BlockRequest(.flush, id: 1))
            _ = sides.meeting.meet()
            delay(rounds & 63)
            let notify = front.publish()
            _ = sides.meeting.meet()
            if !notify && !sides.meeting.found.load(ordering: .relaxed) { lost += 1 }
            _ = sides.meeting.meet()
            while try front.nextResponse() != nil {}
            rounds += 1
        }
        sides.meeting.isOver.store(true, ordering: .relaxed)
        pthread_join(thread, nil)
        print("\(rounds) rounds, \(lost) wake-ups lost")
        if lost > 0 { exit(1) }
    }
}
