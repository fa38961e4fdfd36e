// The bus and its verbs: who sees what, in which order, and what is said of each use that makes no sense.

import DeviceBus
import LinuxSystem
import SharedMemory
import Synchronization
import TestSupport
import Testing

@Suite struct DeviceBusTests {
    let bus = DeviceBus(name: "lab")

    @Test func fiveVerbs() throws {
        let device = EchoDevice()
        try bus.add(device)
        let member = bus.join()
        let region = try SharedRegion(anonymous: 8192)
        let memory = try BusMemory([BusMemory.Extent(address: 0x1000, region: region)])
        let connection = try member.open("echo", version: 2, memory: memory)
        let (counter, told) = (try EventCounter(), LineCollector())
        try connection.share(0, BusArea(region, at: 4096), signal: .descriptor(counter.descriptor))
        try connection.share(1, nil, signal: .action { told.add("told") })
        try connection.signal(1)
        #expect(try connection.call(7, [1, 2, 3]) == [3, 2, 1])
        device.endpoint?.tell(0)
        device.endpoint?.tell(1)
        #expect(try waitReadable(counter.descriptor.rawValue, milliseconds: 0))
        #expect(told.all == ["told"])
        connection.close()
        connection.close()
        #expect(device.log.all == ["connect 2 1", "share 0 4096", "share 1 0", "signal 1", "close"])
    }

    @Test func twoBusesDoNotSeeEachOther() throws {
        let other = DeviceBus(name: "other")
        try bus.add(EchoDevice("a"))
        try other.add(EchoDevice("b"))
        // The same name on both is two devices.
        let (first, second) = (EchoDevice("c"), EchoDevice("c"))
        try bus.add(first)
        try other.add(second)
        let (here, there) = (bus.join(), other.join())
        #expect(here.devices.map(\.name) == ["a", "c"] && there.devices.map(\.name) == ["b", "c"])
        #expect(throws: BusError.noSuchDevice("b", bus: "lab")) { try here.open("b") }
        let connection = try here.open("c")
        #expect(first.log.all == ["connect 1 0"] && second.log.all.isEmpty)
        // Taken from one bus, it is still on the other.
        try other.drop("c")
        #expect(connection.reason == nil && here.devices.map(\.name) == ["a", "c"])
    }

    @Test func membersAreToldOfWhatComesAndGoes() throws {
        try bus.add(EchoDevice("first"))
        let told = LineCollector()
        let hear: @Sendable (BusEvent) -> Void = { event in
            switch event {
            case .added(let device): told.add("+\(device.name)")
            case .dropped(let device): told.add("-\(device.name)")
            }
        }
        let member = bus.join(hear)
        try bus.add(EchoDevice("second"))
        try bus.drop("first")
        member.leave()
        try bus.drop("second")
        #expect(told.all == ["+first", "+second", "-first"])
        #expect(member.devices.isEmpty)
        #expect(throws: BusError.left(bus: "lab")) { try member.open("second") }
    }

    /// A function that is told of a device may use the bus, and hears what follows from that afterwards.
    @Test func whoIsToldMayUseTheBus() throws {
        let (told, bus) = (LineCollector(), bus)
        let member = bus.join { event in
            guard case .added(let device) = event else { return told.add("dropped") }
            told.add("begin \(device.name)")
            if device.name == "one" {
                try? bus.add(EchoDevice("two"))
                try? bus.drop("one")
            }
            told.add("end \(device.name)")
        }
        try bus.add(EchoDevice("one"))
        #expect(told.all == ["begin one", "end one", "begin two", "end two", "dropped"])
        member.leave()
    }

    @Test func aDeviceInUseThatIsDroppedClosesItsConnections() throws {
        let (device, told) = (EchoDevice(servesMany: true), LineCollector())
        try bus.add(device)
        let members = [bus.join(), bus.join()]
        let connections = try members.map { try $0.open("echo") { told.add($0) } }
        try bus.drop("echo")
        #expect(told.all == ["the device was taken away", "the device was taken away"])
        #expect(device.log.all.filter { $0 == "close" }.count == 2)
        let closed = BusError.closed("echo", reason: "the device was taken away")
        for connection in connections {
            #expect(throws: closed) { try connection.call(1) }
            #expect(throws: closed) { try connection.share(0, nil) }
            #expect(throws: closed) { try connection.signal(0) }
        }
        #expect(throws: BusError.noSuchDevice("echo", bus: "lab")) { try bus.drop("echo") }
    }

    @Test func whatMakesNoSenseIsSaid() throws {
        let device = EchoDevice()
        try bus.add(device)
        #expect(throws: BusError.nameTaken("echo", bus: "lab")) { try bus.add(EchoDevice()) }
        for name in ["", "a b", "a/b", "ä", String(repeating: "x", count: 65)] {
            #expect(throws: BusError.badName(name)) { try bus.add(EchoDevice(name)) }
        }
        let (member, other) = (bus.join(), bus.join())
        #expect(throws: BusError.noSuchDevice("nobody", bus: "lab")) { try member.open("nobody") }
        #expect(throws: BusError.wrongVersion(3, device: "echo", has: 1...2)) { try member.open("echo", version: 3) }
        let connection = try member.open("echo")
        #expect(throws: BusError.alreadyOpen("echo")) { try member.open("echo") }
        #expect(throws: BusError.inUse("echo")) { try other.open("echo") }
        for index in [-1, 2, Int.max, Int.min] {
            #expect(throws: BusError.noSuchShare(index, device: "echo", shares: 2)) { try connection.share(index, nil) }
            #expect(throws: BusError.noSuchShare(index, device: "echo", shares: 2)) { try connection.signal(index) }
        }
        #expect(throws: BusError.notShared(1, device: "echo")) { try connection.signal(1) }
        let region = try SharedRegion(anonymous: 4096)
        for area in [
            BusArea(region, at: 4097), BusArea(region, at: -1), BusArea(region, at: 1, byteCount: 4096),
            BusArea(region, byteCount: -1), BusArea(region, at: .min), BusArea(region, at: .max), BusArea(region, entries: -1),
        ] {
            #expect(throws: BusError.noSuchPlace(1, device: "echo")) { try connection.share(1, area) }
        }
        try connection.share(1, BusArea(region))
        #expect(throws: BusError.sharedTwice(1, device: "echo")) { try connection.share(1, nil) }
        #expect(throws: BusError.refused("echo", BusRefusal("no call 99"))) { try connection.call(99) }
        connection.close()
        #expect(throws: BusError.closed("echo", reason: "its driver closed it")) { try connection.call(1) }
    }

    /// A share that the device refused is none, and an opening that it refused holds no place.
    @Test func whatADeviceRefusesLeavesNothing() throws {
        let device = EchoDevice()
        try bus.add(device)
        let (member, other) = (bus.join(), bus.join())
        device.refuses.withLock { $0 = true }
        let refused = BusError.refused("echo", BusRefusal("not today"))
        #expect(throws: refused) { try member.open("echo") }
        device.refuses.withLock { $0 = false }
        let connection = try other.open("echo")
        device.refuses.withLock { $0 = true }
        #expect(throws: refused) { try connection.share(0, nil) }
        #expect(throws: BusError.notShared(0, device: "echo")) { try connection.signal(0) }
        device.refuses.withLock { $0 = false }
        try connection.share(0, nil)
        #expect("\(refused)" == "echo: not today")
    }

    @Test func aConnectionThatIsLetGoOfIsClosed() throws {
        let device = EchoDevice()
        try bus.add(device)
        let member = bus.join()
        do { _ = try member.open("echo") }
        #expect(device.log.all == ["connect 1 0", "close"])
        // Its place is free again, for the same member and for others.
        let again = try member.open("echo")
        again.close()
        _ = try bus.join().open("echo")
        // A connection keeps its membership.
        let kept = try bus.join().open("echo")
        #expect(kept.reason == nil)
        withExtendedLifetime(member) {}
    }

    @Test func aDeviceThatGivesUpTellsItsDriver() throws {
        let (device, told) = (EchoDevice(), LineCollector())
        try bus.add(device)
        let member = bus.join()
        let connection = try member.open("echo") { told.add($0) }
        device.endpoint?.end("it burnt down")
        device.endpoint?.end("twice")
        #expect(told.all == ["it burnt down"] && connection.reason == "it burnt down")
        #expect(device.log.all == ["connect 1 0", "close"])
        _ = try member.open("echo")
    }

    /// Closing, dropping, leaving and calling from many threads at once: one close for each connection.
    @Test func manyThreadsCloseOnce() throws {
        for round in 0..<50 {
            let (device, bus) = (EchoDevice(servesMany: true), DeviceBus(name: "busy"))
            try bus.add(device)
            let members = (0..<4).map { _ in bus.join() }
            let connections = try members.map { try $0.open("echo") }
            let threads = try members.indices.map { index in
                let (member, connection) = (members[index], connections[index])
                return try WorkerThread(name: "user") {
                    try? connection.share(0, nil)
                    for _ in 0..<10 { _ = try? connection.call(1, [1]) }
                    switch (index + round) % 4 {
                    case 0: connection.close()
                    case 1: member.leave()
                    case 2: try? bus.drop("echo")
                    default: device.endpoint?.end("over")
                    }
                    connection.close()
                }
            }
            for thread in threads { thread.join() }
            #expect(device.log.all.filter { $0 == "close" }.count == 4)
        }
    }
}

@Suite struct BusMemoryTests {
    @Test func addressesAreReachedAcrossExtentsAndNowhereElse() throws {
        let (one, two) = (try SharedRegion(anonymous: 4096), try SharedRegion(anonymous: 8192))
        let memory = try BusMemory([
            BusMemory.Extent(address: 0x3000, region: two, offset: 4096),
            BusMemory.Extent(address: 0x2000, region: one),
            BusMemory.Extent(address: .max - 4095, region: two, byteCount: 4096),
        ])
        let pieces = try #require(memory.reach(0x2FF0, byteCount: 32, forWriting: true))
        #expect(pieces.map(\.offset) == [4080, 4096] && pieces.map(\.byteCount) == [16, 16])
        #expect(pieces[0].region === one && pieces[1].region === two)
        #expect(memory.reach(.max, byteCount: 1, forWriting: false)?.first?.offset == 4095)
        for (address, count): (UInt64, UInt64) in [(0x1FFF, 2), (0x3FF0, 17), (.max, 2), (0, .max), (.max - 10, .max), (0, 1)] {
            #expect(memory.reach(address, byteCount: count, forWriting: false) == nil)
        }
        #expect(memory.reach(7, byteCount: 0, forWriting: false)?.isEmpty == true)
    }

    @Test func extentsThatCannotBeAreRefused() throws {
        let region = try SharedRegion(anonymous: 4096)
        let wrong: [[BusMemory.Extent]] = [
            [.init(address: 0, region: region, byteCount: 0)],
            [.init(address: 0, region: region, offset: 1, byteCount: 4096)],
            [.init(address: 0, region: region, offset: -1)],
            [.init(address: .max, region: region, byteCount: 2)],
            [.init(address: 0, region: region), .init(address: 4095, region: region)],
        ]
        for extents in wrong { #expect(throws: BusError.self) { try BusMemory(extents) } }
    }

    @Test func whatIsReadOnlyIsNotWritten() throws {
        let memory = try SealedMemory("bus", byteCount: 4096, final: true)
        let region = try SharedRegion(mapping: memory.descriptor, byteCount: 4096, writable: false)
        let lent = try BusMemory([.init(address: 0, region: region)])
        #expect(lent.reach(0, byteCount: 8, forWriting: false) != nil && lent.reach(0, byteCount: 8, forWriting: true) == nil)
    }
}
