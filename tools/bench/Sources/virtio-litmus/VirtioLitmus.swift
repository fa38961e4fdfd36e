// Store-buffer litmus for the fences of virtqueues, optimized: in each round the driver publishes while the device
// arms, then the device publishes while the driver arms, at the same moment. Either the publisher is told to notify, or
// the other finds the entry; a round in which neither happens is a lost wake-up. Split and packed, events and flags
// take turns.
//
//     swift run -c release virtio-litmus [seconds]      exits 1 if a wake-up was lost

import Glibc
import SharedMemory
import Synchronization
import VirtioRing
import VirtioWire

/// Two threads wait for each other here, awake.
final class Meeting: Sendable {
    private let arrived = Atomic<Int>(0)
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

/// What both sides have.
final class Sides: Sendable {
    let areas: VirtqueueAreas
    let features: VirtioFeatures
    let map: GuestMap
    let meeting = Meeting()

    init(isPacked: Bool, events: Bool) throws {
        var features: VirtioFeatures = .version1
        if isPacked { features.insert(.packedRing) }
        if events { features.insert(.eventIndex) }
        self.features = features
        areas = VirtqueueAreas(in: try SharedRegion(anonymous: 4096), size: 4, features: features)
        map = try GuestMap([.init(address: 0x1000, byteCount: 4096, region: SharedRegion(anonymous: 4096))])
    }
}

nonisolated func serve<Device: DeviceRing & ~Copyable>(_ sides: Sides, _ first: consuming Device) {
    var device = first
    var taken = DescriptorChain()
    var rounds = 0
    while true {
        device.disarm()
        guard sides.meeting.meet() else { return }
        delay(rounds >> 6 & 63)
        rounds += 1
        sides.meeting.found.store(device.armAndRecheck(), ordering: .relaxed)
        guard sides.meeting.meet() else { return }
        while (try? device.take(into: &taken, from: sides.map)) == .chain { device.put(taken.ticket, written: 0) }
        guard sides.meeting.meet() else { return }
        delay(rounds & 63)
        sides.meeting.found.store(device.publish(), ordering: .relaxed)
        guard sides.meeting.meet() else { return }
    }
}

/// Lost wake-ups of the driver's publications, of the device's, and rounds.
func ask<Driver: DriverRing & ~Copyable>(
    _ sides: Sides, _ first: consuming Driver, _ time: Duration
) throws -> (toDevice: Int, toDriver: Int, rounds: Int) {
    var driver = first
    var chain = DescriptorChain()
    chain.appendWritable(GuestRun(address: 0x1000, byteCount: 1))
    let end = ContinuousClock.now + time
    var counts = (toDevice: 0, toDriver: 0, rounds: 0)
    while counts.rounds % 256 != 0 || ContinuousClock.now < end {
        driver.disarm()
        _ = driver.offer(chain)
        _ = sides.meeting.meet()
        delay(counts.rounds & 63)
        let kick = driver.publish()
        _ = sides.meeting.meet()
        if !kick && !sides.meeting.found.load(ordering: .relaxed) { counts.toDevice += 1 }
        _ = sides.meeting.meet()
        delay(counts.rounds >> 6 & 63)
        let isThere = driver.armAndRecheck()
        _ = sides.meeting.meet()
        if !isThere && !sides.meeting.found.load(ordering: .relaxed) { counts.toDriver += 1 }
        while try driver.reap() != nil {}
        counts.rounds += 1
    }
    return counts
}

/// Starts the other side. Not in main(), whose closures belong to the main actor and trap on another thread.
nonisolated func start(_ sides: Sides) -> pthread_t {
    var thread = pthread_t()
    pthread_create(
        &thread, nil,
        { box in
            guard let box else { return nil }
            let sides = Unmanaged<Sides>.fromOpaque(box).takeRetainedValue()
            if sides.areas.isPacked {
                if let device = try? PackedDeviceRing(attaching: sides.areas, features: sides.features) { serve(sides, device) }
            } else if let device = try? SplitDeviceRing(attaching: sides.areas, features: sides.features) {
                serve(sides, device)
            }
            return nil
        }, Unmanaged.passRetained(sides).toOpaque())
    return thread
}

@main struct VirtioLitmus {
    static func main() throws {
        let seconds = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 12
        var lost = 0
        for kind in 0..<4 {
            let (isPacked, events) = (kind & 1 != 0, kind & 2 != 0)
            let sides = try Sides(isPacked: isPacked, events: events)
            let time = Duration.milliseconds(250 * seconds)
            let counts: (toDevice: Int, toDriver: Int, rounds: Int)
            let thread: pthread_t
            if isPacked {
                let driver = PackedDriverRing(initialising: sides.areas, features: sides.features)
                thread = start(sides)
                counts = try ask(sides, driver, time)
            } else {
                let driver = SplitDriverRing(initialising: sides.areas, features: sides.features)
                thread = start(sides)
                counts = try ask(sides, driver, time)
            }
            sides.meeting.isOver.store(true, ordering: .relaxed)
            pthread_join(thread, nil)
            print(
                "\(isPacked ? "packed" : "split"), \(events ? "events" : "flags"): \(counts.rounds) rounds, "
                    + "\(counts.toDevice) kicks and \(counts.toDriver) signals lost")
            lost += counts.toDevice + counts.toDriver
        }
        if lost > 0 { exit(1) }
    }
}
