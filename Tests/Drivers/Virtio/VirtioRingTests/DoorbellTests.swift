// Two threads and a doorbell each way. A lost wake-up shows as a time-out, or as a round in which one side published,
// the other armed, and neither saw the other.

import Foundation
import SharedMemory
import Synchronization
import Testing
import TestSupport
@testable import VirtioRing
import VirtioWire

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
    let faults = Atomic<Int>(0)
    let toDevice = DispatchSemaphore(value: 0)
    let toDriver = DispatchSemaphore(value: 0)
    let ended = DispatchSemaphore(value: 0)

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

/// The device of the stress: each chain's header comes back, its sector times three.
private func serve<Device: DeviceRing & ~Copyable>(
    _ first: consuming Device, _ map: GuestMap, _ total: UInt64, _ outcome: Outcome
) {
    var ring = first
    var chain = DescriptorChain()
    var served: UInt64 = 0
    do throws(VirtqueueError) {
        while served < total {
            ring.disarm()
            while try ring.take(into: &chain, from: map) == .chain {
                var header = BlockRequestHeader(.read)
                if chain.load(&header, from: map) != .here { outcome.faults.wrappingAdd(1, ordering: .relaxed) }
                header.sector &*= 3
                if chain.store(header, at: 0, to: map) != .here { outcome.faults.wrappingAdd(1, ordering: .relaxed) }
                ring.put(chain.ticket, written: 16)
                served += 1
                if served % 3 == 0, ring.publish() { outcome.ring(outcome.toDriver) }
            }
            if ring.publish() { outcome.ring(outcome.toDriver) }
            if served < total, !ring.armAndRecheck(), !outcome.sleep(outcome.toDevice) { break }
        }
    } catch { outcome.faults.wrappingAdd(1, ordering: .relaxed) }
    outcome.ended.signal()
}

/// The driver of the stress, with a page for each chain's name; the sum of what came back.
private func ask<Driver: DriverRing & ~Copyable>(
    _ first: consuming Driver, _ data: SharedRegion, _ total: UInt64, _ outcome: Outcome
) throws -> UInt64 {
    var ring = first
    var chain = DescriptorChain()
    var free = (0..<ring.size).map { $0 }
    var places: [UInt16: Int] = [:]
    var asked: UInt64 = 0, answered: UInt64 = 0, sum: UInt64 = 0
    while answered < total {
        ring.disarm()
        while asked < total, let place = free.last {
            chain.removeAll()
            chain.appendReadable(GuestRun(address: UInt64(64 * place), byteCount: 16))
            chain.appendWritable(GuestRun(address: UInt64(64 * place + 32), byteCount: 16))
            BlockRequestHeader(.write, sector: asked).store(data, at: 64 * place)
            guard let ticket = ring.offer(chain) else { break }
            places[ticket.id] = place
            free.removeLast()
            asked += 1
        }
        if ring.publish() { outcome.ring(outcome.toDevice) }
        var isNew = false
        while let used = try ring.reap() {
            guard let place = places.removeValue(forKey: used.ticket.id) else { throw VirtqueueError.notInFlight(0) }
            sum &+= BlockRequestHeader(data, at: 64 * place + 32).sector
            free.append(place)
            answered += 1
            isNew = true
        }
        if answered < total, !isNew, !ring.armAndRecheck(), !outcome.sleep(outcome.toDriver) { break }
    }
    return sum
}

private let shapes = Shape.all(split: [4, 8], packed: [5, 8], starts: { $0 == 4 ? [65530] : [0] })

@Suite(.serialized) struct DoorbellTests {
    /// Two threads that sleep whenever there is nothing.
    @Test(.timeLimit(.minutes(3)), arguments: shapes.filter { !$0.tables || $0.size == 8 })
    func noWakeUpIsLost(shape: Shape) throws {
        let rig = try Rig(shape)
        let data = try SharedRegion(anonymous: 4096)
        let total: UInt64 = 20_000
        let outcome = Outcome()
        var extents = [GuestMap.Extent(address: 0, byteCount: 4096, region: data)]
        extents += rig.map.extents.filter { $0.address >= Rig.tables }
        let map = try GuestMap(extents)
        let sum: UInt64
        if shape.isPacked {
            let ring = PackedDriverRing(initialising: rig.areas, features: shape.features, tables: rig.driverTables)
            Thread { [areas = rig.areas] in
                if let device = try? PackedDeviceRing(attaching: areas, features: shape.features) {
                    serve(device, map, total, outcome)
                }
            }.start()
            sum = try ask(ring, data, total, outcome)
        } else {
            let start = UInt16(shape.start)
            let ring = SplitDriverRing(
                initialising: rig.areas, features: shape.features, tables: rig.driverTables, startingAt: start)
            Thread { [areas = rig.areas] in
                guard let device = try? SplitDeviceRing(attaching: areas, features: shape.features, startingAt: start) else {
                    return
                }
                serve(device, map, total, outcome)
            }.start()
            sum = try ask(ring, data, total, outcome)
        }
        let ended = outcome.ended.wait(timeout: .now() + 20)
        #expect(ended == .success && outcome.timeouts.load(ordering: .relaxed) == 0 && outcome.faults.load(ordering: .relaxed) == 0)
        #expect(sum == (0..<total).reduce(0) { $0 &+ $1 &* 3 })
        let events = outcome.notifications.load(ordering: .relaxed)
        #expect(events < Int(total) * 2, "\(events) notifications for \(total) chains each way")
    }

    /// One side publishes while the other arms, at the same moment, again and again: either the publisher is told to
    /// notify or the other finds the chain. `tools/bench/virtio-litmus` is the same, optimized: there a missing fence
    /// shows within seconds.
    @Test(.timeLimit(.minutes(3)), arguments: [false, true], [false, true])
    func publishingAgainstArming(isPacked: Bool, events: Bool) throws {
        let shape = Shape(isPacked: isPacked, size: 4, events: events)
        for driverArms in [false, true] {
            let rig = try Rig(shape)
            let found: (lost: Int, rounds: Int)
            if isPacked {
                let driver = PackedDriverRing(initialising: rig.areas, features: shape.features)
                found = try Self.race(driver, rig.map, driverArms) { [areas = rig.areas] in
                    try PackedDeviceRing(attaching: areas, features: shape.features)
                }
            } else {
                let driver = SplitDriverRing(initialising: rig.areas, features: shape.features)
                found = try Self.race(driver, rig.map, driverArms) { [areas = rig.areas] in
                    try SplitDeviceRing(attaching: areas, features: shape.features)
                }
            }
            #expect(found.lost == 0, "\(found) of \(shape), driver arms: \(driverArms)")
        }
    }

    /// Three meetings a round: the driver's chain on its way, the device's answer, the end.
    private static func race<Driver: DriverRing & ~Copyable, Device: DeviceRing & ~Copyable & SendableMetatype>(
        _ first: consuming Driver, _ map: GuestMap, _ driverArms: Bool, _ make: @escaping @Sendable () throws -> Device
    ) throws -> (lost: Int, rounds: Int) {
        var driver = first
        let meeting = Meeting()
        Thread {
            guard var device = try? make() else { return meeting.leave() }
            var taken = DescriptorChain()
            while true {
                // Kicks are not wanted until the device arms, while the driver publishes.
                device.disarm()
                guard meeting.meet() else { return }
                if !driverArms { meeting.found.store(device.armAndRecheck(), ordering: .relaxed) }
                guard meeting.meet() else { return }
                while (try? device.take(into: &taken, from: map)) == .chain { device.put(taken.ticket, written: 0) }
                guard meeting.meet() else { return }
                let signal = device.publish()
                if driverArms { meeting.found.store(signal, ordering: .relaxed) }
                guard meeting.meet() else { return }
            }
        }.start()
        defer { meeting.leave() }
        var chain = DescriptorChain()
        chain.appendWritable(GuestRun(address: Rig.data, byteCount: 1))
        let start = ContinuousClock.now
        var lost = 0, rounds = 0
        while rounds < 20 || ContinuousClock.now - start < .milliseconds(500) {
            driver.disarm()
            _ = driver.offer(chain)
            guard meeting.meet() else { break }
            var isTold = driver.publish()
            guard meeting.meet() else { break }
            if !driverArms, !isTold, !meeting.found.load(ordering: .relaxed) { lost += 1 }
            guard meeting.meet() else { break }
            if driverArms { isTold = driver.armAndRecheck() }
            guard meeting.meet() else { break }
            if driverArms, !isTold, !meeting.found.load(ordering: .relaxed) { lost += 1 }
            while try driver.reap() != nil {}
            rounds += 1
        }
        return (lost, rounds)
    }
}
