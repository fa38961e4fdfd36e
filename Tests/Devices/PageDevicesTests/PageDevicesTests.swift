// Flat devices on a bus: a page is seen to change and signalled, and what a driver writes at random harms nobody.

import DeviceBus
import LinuxSystem
import SharedMemory
import Synchronization
import TestSupport
import Testing

@testable import PageDevices

@Suite struct PageDevicesTests {
    let bus = DeviceBus(name: "lab")
    let log = LineCollector()

    /// The last lines are what the device says of its drivers.
    private func add(_ device: any FlatDevice, _ name: String) throws {
        let log = log
        try bus.add(FlatBusDevice(device, name: name) { log.add($0) })
    }

    @Test func aClockIsSeenToChange() throws {
        let time = ManualClock()
        let clock = HostClock(time: time)
        try add(clock, "clock")
        let told = LineCollector()
        let client = try FlatClient.clock("clock", on: bus.join()) { told.add("look") }
        let first = try client.reading()
        #expect(first == clock.reading && first.version == 1)
        time.advance(milliseconds: 1500)
        #expect(try client.reading() == first)
        clock.look()
        let second = try client.reading()
        #expect(told.all == ["look"] && second.version == 2)
        #expect(second.monotonic == first.monotonic + 1_500_000_000)
        #expect(second.calendar(at: second.monotonic + 7) == second.calendar + 7)
        let refused = FlatClientError.device(.notWritable(type: "clock", offset: 0, byteCount: 1))
        #expect(throws: refused) { try client.write([1], at: 0) }
    }

    @Test func aBalloonGoesBothWays() throws {
        let reported = LineCollector()
        let balloon = Balloon(mostPages: 1000) { reported.add("\($0)") }
        try add(balloon, "balloon")
        let told = LineCollector()
        let client = try FlatClient.balloon("balloon", on: bus.join()) { told.add("target") }
        #expect(try client.target() == 0)
        try balloon.setTarget(300)
        #expect(try client.target() == 300 && told.all == ["target"])
        try client.report(128)
        try client.report(300)
        #expect(reported.all == ["128", "300"] && balloon.actual == 300)
        #expect(try balloon.bytes == client.read().prefix(4) + [44, 1, 0, 0])
        #expect(throws: FlatDeviceError.self) { try balloon.setTarget(1001) }
        // Many drivers see one target, and a driver that goes takes its watch along.
        let second = try FlatClient.balloon("balloon", on: bus.join())
        #expect(try second.target() == 300)
        client.close()
        try balloon.setTarget(1)
        #expect(try second.target() == 1 && told.all.count == 1)
        #expect(throws: FlatClientError.self) { try client.target() }
        #expect(balloon.watchers.count == 1)
        second.close()
        #expect(balloon.watchers.count == 0)
    }

    /// A driver that answers a change from within the signal, a device that answers from within the report.
    @Test func whoIsToldMayAnswerAtOnce() throws {
        let holder = Holder()
        let balloon = Balloon(mostPages: 1000) { pages in if pages < 5 { try? holder.balloon?.setTarget(pages + 1) } }
        holder.set(balloon)
        try add(balloon, "balloon")
        let client = try FlatClient.balloon("balloon", on: bus.join()) { holder.answer() }
        holder.set(client)
        try balloon.setTarget(1)
        #expect(balloon.actual == 5 && balloon.target == 5)
        holder.clear()
    }

    @Test func aDeviceOfAnotherTypeIsNotOpened() throws {
        try add(HostClock(time: ManualClock()), "clock")
        #expect(throws: FlatClientError.otherType(device: "clock", type: "clock", wanted: "balloon")) {
            try FlatClient.balloon("clock", on: bus.join())
        }
    }

    @Test func callsReadAndWriteWhatPagesDo() throws {
        let balloon = Balloon(mostPages: 1000)
        try add(balloon, "balloon")
        let connection = try bus.join().open("balloon")
        try balloon.setTarget(0x203)
        #expect(try connection.call(FlatShare.read, [0, 0, 0, 0, 8, 0, 0, 0]) == [3, 2, 0, 0, 0, 0, 0, 0])
        #expect(try connection.call(FlatShare.read, [7, 0, 0, 0, 255, 255, 255, 255]) == [0])
        #expect(try connection.call(FlatShare.read, [255, 255, 255, 255, 1, 0, 0, 0]) == [])
        #expect(try connection.call(FlatShare.write, [4, 0, 0, 0, 9, 0, 0, 0]) == [])
        #expect(balloon.actual == 9)
        for wrong: [UInt8] in [
            [0, 0, 0, 0, 1, 0, 0, 0], [4, 0, 0, 0, 1], [4, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF], [255, 255, 255, 255, 1],
            [5, 0, 0, 0, 1, 2, 3, 4], [8, 0, 0, 0, 1], [1, 2],
        ] {
            #expect(throws: BusError.self) { try connection.call(FlatShare.write, wrong) }
        }
        #expect(balloon.actual == 9)
        for bytes in [[], [1], [UInt8](repeating: 0, count: 9)] {
            #expect(throws: BusError.self) { try connection.call(FlatShare.read, bytes) }
        }
        #expect(throws: BusError.self) { try connection.call(17) }
    }

    /// A device that looks at nothing is not shown what is not the driver's.
    @Test func aDeviceSeesOnlyWhatIsTheDrivers() throws {
        let device = CredulousDevice()
        try add(device, "credulous")
        let connection = try bus.join().open("credulous")
        for (offset, count): (UInt32, Int) in [(0, 1), (3, 1), (3, 2), (4, 5), (8, 1), (.max, 1), (0, 16), (9, 0)] {
            let head = (0..<4).map { UInt8(truncatingIfNeeded: offset >> (8 * $0)) }
            #expect(throws: BusError.self) { try connection.call(FlatShare.write, head + [UInt8](repeating: 1, count: count)) }
        }
        try connection.call(FlatShare.write, [4, 0, 0, 0, 1, 2, 3, 4])
        try connection.call(FlatShare.write, [7, 0, 0, 0, 9])
        #expect(device.taken.all == ["4: [1, 2, 3, 4]", "7: [9]"])
    }

    @Test func pagesThatCannotBeAreRefused() throws {
        try add(Balloon(mostPages: 1), "balloon")
        let connection = try bus.join().open("balloon")
        let region = try SharedRegion(anonymous: 8192)
        for area in [BusArea(region, byteCount: FlatShare.byteCount - 1), BusArea(region, at: 8), BusArea(region, at: 8000)] {
            #expect(throws: BusError.self) { try connection.share(FlatShare.device, area) }
            #expect(throws: BusError.self) { try connection.share(FlatShare.driver, area) }
        }
        #expect(throws: BusError.self) { try connection.share(FlatShare.driver, nil) }
        let sealed = try SealedMemory("page", byteCount: 4096, final: true)
        let readOnly = try SharedRegion(mapping: sealed.descriptor, byteCount: 4096, writable: false)
        #expect(throws: BusError.self) { try connection.share(FlatShare.device, BusArea(readOnly)) }
        try connection.share(FlatShare.driver, BusArea(readOnly))
    }
}

/// A device that takes whatever it is given.
private final class CredulousDevice: FlatDevice {
    let layout = FlatLayout(type: "credulous", byteCount: 16, writable: 4..<8)
    let watchers = FlatWatchers()
    let bytes = [UInt8](repeating: 0, count: 16)
    let taken = LineCollector()
    func take(_ bytes: [UInt8], at offset: Int) throws(FlatDeviceError) { taken.add("\(offset): \(bytes)") }
}

/// A balloon and its driver, each told of the other.
private final class Holder: Sendable {
    private let state = Mutex<(Balloon?, FlatClient?)>((nil, nil))
    var balloon: Balloon? { state.withLock { $0.0 } }
    func set(_ balloon: Balloon) { state.withLock { $0.0 = balloon } }
    func set(_ client: FlatClient) { state.withLock { $0.1 = client } }
    func clear() { state.withLock { $0 = (nil, nil) } }
    func answer() {
        guard let client = state.withLock({ $0.1 }), let target = try? client.target() else { return }
        try? client.report(target)
    }
}

@Suite struct HostilePageTests {
    /// Everything a driver can write, at random, while the device works: no trap, no value that cannot be, few lines.
    @Test(.timeLimit(.minutes(1)))
    func PG1_PG2_aDriverThatWritesAtRandomHarmsNobody() throws {
        let (bus, log) = (DeviceBus(name: "lab"), LineCollector())
        let balloon = Balloon(mostPages: 1000) { #expect($0 <= 1000) }
        try bus.add(FlatBusDevice(balloon, name: "balloon") { log.add($0) })
        let client = try FlatClient.balloon("balloon", on: bus.join())
        let honest = try FlatClient.balloon("balloon", on: bus.join())
        var random = SplitMix(7)
        for round in 0..<20_000 {
            // Either page, its sequence more often than chance has it.
            let page = Int(random.next() % 2) * SharedRegion.pageSize
            let place = random.next() % 3 == 0 ? 0 : Int(random.next() % 80) * 4
            client.region.store(UInt32(truncatingIfNeeded: random.next()), at: page + place)
            client.signal()
            if round % 16 == 0 {
                try balloon.setTarget(UInt32(round % 1000))
                #expect(try honest.target() == UInt32(round % 1000))
            }
            _ = try? client.target()
        }
        #expect(balloon.actual <= 1000)
        #expect(log.all.count <= 4 && !log.all.isEmpty)
        try honest.report(77)
        #expect(balloon.actual == 77)
    }

    /// A driver that never lets its page rest: the device gives up each time, in bounded time, and serves the others.
    @Test(.timeLimit(.minutes(1)))
    func PG3_aPageThatNeverRestsIsNotWaitedFor() throws {
        let (bus, log) = (DeviceBus(name: "lab"), LineCollector())
        let balloon = Balloon(mostPages: .max)
        try bus.add(FlatBusDevice(balloon, name: "balloon") { log.add($0) })
        let client = try FlatClient.balloon("balloon", on: bus.join())
        let region = client.region
        let isOver = Atomic<Bool>(false)
        try withThread {
            var sequence: UInt32 = 0
            while !isOver.load(ordering: .relaxed) {
                sequence &+= 7
                region.storeRelaxed(sequence, at: SharedRegion.pageSize)
            }
        } during: {
            // As soon as the two threads run at the same time.
            let begun = monotonicMilliseconds()
            while log.all.isEmpty, monotonicMilliseconds() - begun < 30_000 { for _ in 0..<1000 { client.signal() } }
            isOver.store(true, ordering: .relaxed)
        }
        #expect(log.all.contains { $0.contains("changed each time") })
    }

    /// Two who write each other's values at speed: each read is a value that was written as a whole.
    @Test(.timeLimit(.minutes(1)))
    func readsAreWhole() throws {
        let layout = FlatLayout(type: "row", byteCount: 64, writable: 0..<64)
        let region = try SharedRegion(anonymous: 8192)
        let pages = FlatPages(layout, device: region, driver: nil)
        let isOver = Atomic<Bool>(false)
        try withThread {
            var writer = StatePageWriter<FlatRecord>(initialising: region)
            var byte: UInt8 = 0
            while !isOver.load(ordering: .relaxed) {
                byte &+= 1
                writer.write(FlatRecord(repeating: byte))
            }
        } during: {
            var seen: Set<UInt8> = []
            for _ in 0..<50_000 {
                guard let bytes = try? pages.read() else { continue }
                #expect(Set(bytes).count == 1)
                seen.insert(bytes[0])
            }
            #expect(seen.count > 1)
            isOver.store(true, ordering: .relaxed)
        }
    }
}

/// Runs `body` on a thread while `other` runs here; `other` ends it.
private func withThread(_ body: @escaping @Sendable () -> Void, during other: () throws -> Void) throws {
    let thread = try WorkerThread(name: "other", body)
    defer { thread.join() }
    try other()
}
