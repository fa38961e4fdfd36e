// Backends that come, go, ring and answer as they please: a frontend stays alive, can be closed, and gives everything
// back.

import Foundation
import Hypervisor
import LinuxSystem
import MockPeers
import NetworkBackend
import NetworkFrontend
import NetworkProtocol
import SharedMemory
import SharedRing
import Synchronization
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenStore
import XenTypes

@Suite(.timeLimit(.minutes(3)), .serialized)
struct HostileBackendLifeTests {
    /// A backend that rings for nothing as fast as it can.
    @Test func C5_aStormOfRings() throws {
        let pair = try MockBackendPair()
        let raw = pair.backend
        #expect(try pair.serves())
        let before = pair.frontend.statistics[0].notificationsTaken
        let isOver = Atomic<Bool>(false)
        let bell = try #require(raw.bell)
        let storm = try WorkerThread(name: "storm") { while !isOver.load(ordering: .relaxed) { bell.notify() } }
        sleepMilliseconds(500)
        // It serves during the storm, if later.
        #expect(try pair.serves(seed: 3))
        isOver.store(true, ordering: .relaxed)
        storm.join()
        // Counters are shown when there was work.
        #expect(try pair.serves(seed: 4))
        let rings = pair.frontend.statistics[0].notificationsTaken - before
        #expect(rings > 0 && rings < 200, "\(rings) rings taken")
        pair.end()
    }

    /// A hundred thousand frames later there is as much memory as there was.
    @Test func C6_memoryStaysWhatItWas() throws {
        let pair = try MockBackendPair()
        let raw = pair.backend
        var memory = 0
        for round in 0..<soak(60) {
            if round == 20 { memory = residentKilobytes() }
            for turn in 0..<32 {
                var count = 0
                while count < 8 {
                    let request = try raw.posted()
                    let flags: ReceiveFlags = turn % 2 == 0 && count % 2 == 0 ? .moreData : []
                    raw.receive.push(ReceiveSlot(ReceiveResponse(id: request.id, flags: flags, status: turn % 5 == 0 ? -1 : 70)))
                    count += 1
                }
                _ = raw.receive.publish()
                raw.ring()
                while try pair.wire.receive(milliseconds: 0) != nil {}
            }
        }
        #expect(residentKilobytes() - memory < 1024)
        _ = eventually { (try? pair.wire.receive(milliseconds: 30)) == nil }
        #expect(try pair.serves())
        pair.end()
    }

    /// The backend's state walks at random, past a frontend that connects, serves, disconnects; then a clean connection
    /// works.
    @Test(arguments: 0..<6) func C7_statesAtRandom(_ seed: Int) throws {
        let pair = try MockBackendPair()
        let raw = pair.backend
        var random = SplitMix(UInt64(seed))
        let states = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "-1", "4abc", "", "99999999999999999999"]
        for _ in 0..<soak(60) {
            // Junk is the end of a device (the store's own contents cannot be believed), so it comes last.
            try raw.say(states[Int(random.next() % 9)])
            usleep(UInt32(random.next() % 2000))
        }
        for round in 0..<2 {
            try raw.startAgain()
            try pair.goLive()
            #expect(try pair.serves(seed: round))
        }
        try raw.say(states[9 + seed % 5])
        sleepMilliseconds(30)
        let start = monotonicMilliseconds()
        pair.end()
        #expect(monotonicMilliseconds() - start < 1000)
    }

    /// The frontend is closed at every moment of its connecting, and its directories are taken away at others.
    @Test(.inProcess("counts regions and descriptors, of which the libraries keep some")) func C8_closedAtEveryPointOfConnecting()
        throws
    {
        let pair = try NetworkPair()
        // A first connection leaves the domain its grant table.
        let usage = pair.host.usage
        let first = try pair.connect()
        first.close()
        expectBaseline(pair.host, usage)
        try pair.toolstack.store.write(pair.paths.frontendPath + "/state", "1")
        #expect(try eventually { try pair.node("state") == "2" })
        let baseline = (usage, SharedRegion.liveCount, Descriptor.openCount)
        for round in 0..<soak(40) {
            let frontend = try NetworkFrontend(hypervisor: pair.guest, number: 0, device: pair.frontWire.network)
            try frontend.start()
            usleep(UInt32(round * 500))
            frontend.close()
            try pair.toolstack.store.write(pair.paths.frontendPath + "/state", "6")
            #expect(try eventually { try pair.node("state") == "6" })
            try pair.toolstack.store.write(pair.paths.frontendPath + "/state", "1")
            #expect(try eventually { try pair.node("state") == "2" })
        }
        expectBaseline(pair.host, baseline.0)
        _ = eventually { SharedRegion.liveCount == baseline.1 && Descriptor.openCount == baseline.2 }
        #expect(SharedRegion.liveCount <= baseline.1 && Descriptor.openCount <= baseline.2)
        // Taken away while it connects.
        for round in 0..<soak(20) {
            let number = UInt32(round + 1)
            let paths = try pair.toolstack.create(
                VifSpecification(parsing: "devid=\(number)"), frontend: DomainID(1), random: .system)
            let frontend = try NetworkFrontend(hypervisor: pair.guest, number: number, device: pair.frontWire.network)
            try frontend.start()
            usleep(UInt32(round * 700))
            try pair.toolstack.destroy(paths)
            #expect(eventually { frontend.failure != nil })
            frontend.close()
        }
        expectBaseline(pair.host, baseline.0)
        pair.backend.stop()
    }

    /// Ids are never an index before they were checked, on either ring.
    @Test(arguments: [256, 257, 32_767, 32_768, 65_535] as [UInt16]) func C11_idsFarOutside(_ id: UInt16) throws {
        let pair = try MockBackendPair()
        let raw = pair.backend
        try raw.give([{ _ in ReceiveSlot(ReceiveResponse(id: id, status: 100)) }])
        #expect(eventually { pair.frontend.statistics[0].receiveDropped == 1 })
        #expect(try pair.serves())
        try pair.wire.send(plainFrame(60))
        _ = try raw.sent()
        raw.answer(id)
        try pair.wire.send(plainFrame(60))
        #expect(eventually { pair.frontend.failure?.description.contains("not on the ring") == true })
        pair.end()
    }

    /// The backend closes, breaks a ring and takes the directory away while the frontend is closed from two threads:
    /// torn down once.
    @Test(.inProcess("the mock keeps the rings' regions, and through the libraries so their mappings"))
    func C12_manyReasonsToEndAtOnce() throws {
        for round in 0..<soak(25) {
            let pair = try MockBackendPair()
            let raw = pair.backend
            let frontend = pair.frontend
            try pair.wire.send(plainFrame(60))
            _ = try raw.sent()
            let closers = try (0..<2).map { index in
                try WorkerThread(name: "closer") {
                    usleep(UInt32((round * 37 + index * 11) % 400))
                    frontend.close()
                }
            }
            if round % 3 != 0 { raw.receive.region.storeReleasing(5000, at: RingHeader.responseProduced) }
            raw.ring()
            try raw.say(round % 2 == 0 ? "5" : "6")
            if round % 5 == 0 { try DeviceDirectories(store: raw.store).destroy(raw.paths) }
            for closer in closers { closer.join() }
            raw.letGo()
            #expect(eventually { pair.host.usage.grants == 0 && pair.host.usage.mappings == 0 })
            raw.store.close()
        }
    }

    /// A null response is for extra information; for a frame's own slot it is a lie.
    @Test func C21_nullForData() throws {
        let pair = try MockBackendPair()
        let raw = pair.backend
        let frame = TestFrame(version: 4, transport: .tcp, payload: 3000)
        try pair.wire.send(frame.bytes, header: TestFrame.header(frame.segmented(1448)))
        let request = try #require(try raw.sent()).request
        #expect(try #require(try raw.sent()).extra.type == .segmentation)
        #expect(request.flags == [.checksumBlank, .dataValidated, .extraInfo])
        raw.answer(request.id)
        raw.answer(0, .null)
        try pair.wire.send(plainFrame(60))
        let next = try #require(try raw.sent()).request
        #expect(pair.frontend.failure == nil)
        raw.answer(next.id, .null)
        try pair.wire.send(plainFrame(60))
        #expect(eventually { pair.frontend.failure?.description.contains("null response") == true })
        pair.end()
    }

    /// A control ring whose answers are for somebody else, or say what cannot be: the feature is off, and frames flow.
    @Test(arguments: ["id", "type", "status", "size", "index"]) func C22_answersOnTheControlRing(_ lie: String) throws {
        let pair = try MockBackendPair(controlRing: true, goesLive: false)
        let raw = pair.backend
        try raw.attach()
        let keys = try NetworkRequestKeys.read(
            from: raw.store, at: raw.paths.frontendPath, offer: NetworkOffer(splitChannels: false))
        let control = try #require(keys.control)
        let page = try raw.hypervisor.mapContiguous([control.ring], of: DomainID(1), access: .readWrite)
        let bell = try raw.hypervisor.bindChannel(remote: DomainID(1), port: control.port)
        let isOver = Atomic<Bool>(false)
        let answered = Atomic<Int>(0)
        try withThread("control") {
            var ring = BackRing(attaching: page.region, ControlRing())
            while !isOver.load(ordering: .relaxed) {
                guard let request = try? ring.nextRequest() else {
                    usleep(100)
                    continue
                }
                var response = ControlResponse(to: request, .success, data: 512)
                switch lie {
                case "id": response.id &+= 1
                case "type": response.rawType = 77
                case "status": response.rawStatus = 4
                case "size": response.data = .max
                default: break
                }
                ring.push(response)
                _ = ring.publish()
                if lie == "index" { page.region.storeReleasing(1000, at: RingHeader.responseProduced) }
                answered.wrappingAdd(1, ordering: .relaxed)
                bell.notify()
            }
        } during: {
            defer { isOver.store(true, ordering: .relaxed) }
            try pair.goLive()
        }
        #expect(answered.load(ordering: .relaxed) >= 1)
        #expect(pair.frontend.mappedPages == (lie == "size" ? 512 : 0))
        #expect(try pair.serves())
        bell.close()
        page.unmap()
        pair.end()
    }

    /// A backend that answers nothing, or one frame in three, or never rings: what is out is bounded, and the frontend
    /// can be closed in a second.
    @Test(
        .inProcess("the mock keeps the rings' regions, and through the libraries so their mappings"),
        arguments: ["nothing", "one of three", "no rings"])
    func C23_C27_aBackendThatDoesNotAnswer(_ kind: String) throws {
        let pair = try MockBackendPair()
        let raw = pair.backend
        var sent = 0
        while sent < 50_000,
            pair.wire.offer(plainFrame(200, seed: sent)) || eventually(20, { pair.wire.offer(plainFrame(200, seed: sent)) })
        { sent += 1 }
        #expect(sent < 50_000, "the wire is full, as a cable's end is")
        #expect(pair.frontend.statistics[0].transmitted <= 256)
        let memory = residentKilobytes()
        for _ in 0..<200 { _ = pair.wire.offer(plainFrame(200)) }
        #expect(residentKilobytes() - memory < 512)
        if kind != "nothing" {
            var count = 0
            while let slot = try raw.sent(milliseconds: 20) {
                count += 1
                if kind == "one of three" && count % 3 != 0 { continue }
                raw.transmit.push(TransmitResponse(id: slot.request.id, status: .okay))
                _ = raw.transmit.publish()
                if kind == "one of three" { raw.ring() }
            }
            #expect(count >= 200)
        }
        let start = monotonicMilliseconds()
        pair.frontend.close()
        #expect(monotonicMilliseconds() - start <= 1000, "\(monotonicMilliseconds() - start) ms")
        raw.letGo()
        #expect(eventually { pair.host.usage.mappings == 0 && pair.host.usage.grants == 0 })
        raw.store.close()
    }

    /// A backend that comes back as another one: with fewer features, or more; the frontend asks for what there is now.
    @Test func C24_aBackendThatComesBackAsAnother() throws {
        let pair = try NetworkPair(backendDomain: 5)
        let frontend = try pair.connect()
        var backend = pair.backend
        for (round, change)
            in ([
                { $0.features = [.scatterGather] }, { $0.features = [] }, { $0.controlRing = false }, { $0.splitChannels = false },
                { $0.grantMappings = 3 }, { _ in },
            ] as [(inout NetworkBackendOptions) -> Void]).enumerated()
        {
            backend.kill()
            var options = NetworkBackendOptions()
            change(&options)
            backend = try RunningBackend(pair.host, domain: 5, options, device: pair.backWire.network)
            #expect(eventually(5000) { frontend.connectionCount == round + 2 && frontend.isLive })
            for size in [60, 1514] {
                let frame = plainFrame(size, seed: round)
                try pair.frontWire.send(frame)
                expectSame(try pair.backWire.receive()?.frame ?? [], frame)
                try pair.backWire.send(frame)
                expectSame(try pair.frontWire.receive()?.frame ?? [], frame)
            }
            // A checksum left blank reaches who can fill it in, and nobody else.
            let blank = TestFrame(version: 4, transport: .udp, payload: 100, seed: round)
            try pair.frontWire.send(blank.bytes, header: TestFrame.header(blank.blank))
            let got = try #require(try pair.backWire.receive())
            #expect(
                options.features.contains(.checksum4) ? got.header == TestFrame.header(blank.blank) : blank.isFinished(got.frame))
            #expect(frontend.mappedPages == (options.controlRing && options.grantMappings > 3 ? 512 : options.controlRing ? 3 : 0))
        }
        frontend.close()
        backend.stop()
    }

    /// The toolstack's word on who the backend is, and what else may stand there.
    @Test(arguments: [
        ("backend", "/local/domain/7/backend/vif/1/0"), ("backend", "/local/domain/1/data"), ("backend", ""),
        ("backend", "../../0"),
        ("backend-id", "7"), ("backend-id", "-1"), ("backend-id", "99999"), ("backend-id", "junk"),
    ]) func C26_anotherBackendsDirectory(_ key: String, _ value: String) throws {
        let host = TestHost(time: .system)
        let store = try host.store.connectInProcess(domain: .zero)
        let paths = try DeviceDirectories(store: store).create(VifSpecification(), frontend: DomainID(1), random: .system)
        try store.write(paths.frontendPath + "/" + key, value)
        let wire = try Wire("front")
        let frontend = try NetworkFrontend(hypervisor: host.domain(1), number: 0, device: wire.network)
        #expect(throws: NetworkFrontendError.self) { try frontend.connect(timeoutMilliseconds: 3000) }
        #expect(frontend.failure?.description.contains("/backend") == true, "\(String(describing: frontend.failure))")
        frontend.close()
        #expect(host.usage.grants == 0)
        store.close()
    }

    /// The directory vanishes under a live frontend, and comes back: what was offered is withdrawn, and offered anew.
    @Test func C26_aDirectoryThatVanishes() throws {
        let pair = try MockBackendPair()
        let raw = pair.backend
        #expect(try pair.serves())
        try raw.store.remove(raw.paths.backendPath)
        #expect(eventually { !pair.frontend.isLive })
        raw.letGo()
        // The toolstack makes it again, readable by its guest, as the first one was.
        try raw.store.write(raw.paths.backendPath, "")
        try raw.store.setPermissions(raw.paths.backendPath, [StorePermission(.none, .zero), StorePermission(.read, DomainID(1))])
        try NetworkOffer(splitChannels: false, controlRing: false).write(to: raw.store, at: raw.paths.backendPath)
        try raw.store.write(raw.paths.backendPath + "/online", "1")
        try raw.say("2")
        try raw.attach()
        try pair.goLive()
        #expect(try pair.serves(seed: 4))
        pair.end()
    }

    /// The old connection's rings go on being written after the frontend has new ones: nobody reads them.
    @Test func C28_answersOnARingOfThePast() throws {
        let pair = try MockBackendPair()
        let raw = pair.backend
        try pair.wire.send(plainFrame(60, seed: 1))
        let old = try #require(try raw.sent()).request
        let (transmit, receive) = (raw.transmit.region, raw.receive.region)
        pair.frontend.resume()
        #expect(eventually { !pair.frontend.isLive })
        try raw.startAgain(lettingGo: false)
        for round in 0..<50 {
            TransmitResponse(id: old.id, status: .okay).store(transmit, 64)
            ReceiveSlot(ReceiveResponse(id: 0, status: 100)).store(receive, 64)
            transmit.storeReleasing(UInt32(round), at: RingHeader.responseProduced)
            receive.storeReleasing(5000, at: RingHeader.responseProduced)
            if round == 25 { try pair.goLive() }
            usleep(500)
        }
        raw.ring()
        #expect(try pair.serves(seed: 2))
        try pair.wire.send(plainFrame(61, seed: 2))
        let next = try #require(try raw.sent()).request
        #expect(next.size == 61)
        raw.answer(next.id)
        #expect(pair.frontend.failure == nil && pair.frontend.statistics[0].receiveDropped == 0)
        pair.end()
    }
}
