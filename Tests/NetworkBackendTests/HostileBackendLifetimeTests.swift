// Backends that keep, change, stop, come back and go at the wrong time, row by row of the attack list (section C): the frontend's memory
// stays its own, it never hangs, and it serves again.

import Foundation
import HostDevices
import Hypervisor
import InProcessHypervisor
import LinuxSystem
import NetworkBackend
import NetworkFrontend
import SharedMemory
import SharedRing
import TestSupport
import Testing
import Toolstack
import XenBus
import XenStore
import XenWire

@Suite(.timeLimit(.minutes(3)), .serialized)
struct HostileBackendLifetimeTests {
    /// XSA-396: the backend keeps pages mapped after the end. Access ends as soon as it lets go, and nothing waits for it.
    @Test func C1_pagesThatTheBackendKeeps() throws {
        let raw = try RawBackend()
        var kept: [MappedGrant] = []
        for _ in 0..<3 {
            let request = try #require(try raw.receive.nextRequest())
            kept += try raw.hypervisor.mapGrants([request.reference], of: DomainID(1), access: .readWrite)
        }
        let before = monotonicMilliseconds()
        raw.end()
        #expect(monotonicMilliseconds() - before < 3000)
        #expect(raw.host.usage != raw.baseline, "three pages are still out")
        // Still mapped, and nobody else's: what is written there reaches nobody.
        for grant in kept { grant.region.store(UInt64(1), at: grant.offset) }
        raw.hypervisor.unmapGrants(kept)
        expectBaseline(raw.host, raw.baseline)
    }

    /// XSA-403: whole pages are granted. All that a backend can read in them is what was sent to it: they are nobody else's, ever.
    @Test func C2_C3_C17_pagesHoldNothingButFrames() throws {
        let raw = try RawBackend()
        var pages: [MappedGrant] = []
        for _ in 0..<256 {
            let request = try #require(try raw.receive.nextRequest())
            pages += try raw.hypervisor.mapGrants([request.reference], of: DomainID(1), access: .readOnly)
        }
        for page in pages { #expect(page.region.bytes(at: page.offset, count: 4096).allSatisfy { $0 == 0 }) }
        raw.hypervisor.unmapGrants(pages)
        let frame = plainFrame(100, seed: 4)
        try raw.wire.send(frame)
        var slot: TransmitSlot?
        #expect(try eventually {
            slot = try raw.transmit.nextRequest()
            return slot != nil
        })
        let request = try #require(slot?.request)
        // Read-only: what is sent cannot be changed under way.
        #expect(throws: HypervisorError.self) {
            try raw.hypervisor.mapGrants([request.reference], of: DomainID(1), access: .readWrite)
        }
        let sent = try raw.hypervisor.mapGrants([request.reference], of: DomainID(1), access: .readOnly)
        #expect(sent[0].region.bytes(at: sent[0].offset, count: 100) == frame)
        #expect(sent[0].region.bytes(at: sent[0].offset + 100, count: 3996).allSatisfy { $0 == 0 })
        #expect(!sent[0].region.isWritable)
        raw.hypervisor.unmapGrants(sent)
        raw.end()
        expectBaseline(raw.host, raw.baseline)
    }

    /// XSA-405: after errors of every kind each page is posted once, neither lost nor twice.
    @Test func C4_C6_everyPageIsPostedOnce() throws {
        let raw = try RawBackend()
        func answer(_ status: Int16, _ flags: ReceiveFlags = []) -> (ReceiveRequest) -> ReceiveSlot {
            { ReceiveSlot(ReceiveResponse(id: $0.id, flags: flags, status: status)) }
        }
        var taken: UInt32 = 0
        for round in 0..<200 {
            let chain: [(ReceiveRequest) -> ReceiveSlot] =
                switch round % 4 {
                case 0: [answer(-1)]
                case 1: [answer(3, .moreData), answer(100)]
                case 2: (0..<20).map { answer(100, $0 < 19 ? .moreData : []) }
                default: [answer(100, .extraInfo), { _ in ReceiveSlot(ExtraInfo(segmenting: .tcp4, size: 0)) }]
                }
            try raw.give(chain)
            taken += UInt32(chain.count)
        }
        #expect(eventually { raw.receive.region.loadAcquiring(RingHeader.requestProduced) == taken &+ 256 })
        // The next 256 are 256 different pages.
        var pages: Set<UInt32> = []
        var ids: Set<UInt16> = []
        for _ in 0..<256 {
            let request = try #require(try raw.receive.nextRequest())
            pages.insert(request.reference.rawValue)
            ids.insert(request.id)
        }
        #expect(pages.count == 256 && ids.count == 256)
        raw.end()
        expectBaseline(raw.host, raw.baseline)
    }

    @Test func C5_anEventStorm() throws {
        let raw = try RawBackend()
        let bell = try #require(raw.bell)
        let pest = try Pest { for _ in 0..<100 { bell.notify() } }
        usleep(1_000_000)
        // A frame makes the counters current.
        #expect(try raw.serves())
        let before = raw.frontend.statistics[0].notificationsTaken
        usleep(1_000_000)
        #expect(try raw.serves())
        #expect(raw.frontend.statistics[0].notificationsTaken - before < 100)
        pest.stop()
        raw.end()
    }

    /// States in any order, known and unknown, while the frontend is connected, connecting and not: it follows or waits, and connects again.
    @Test func C7_statesInAnyOrder() throws {
        let raw = try RawBackend()
        var random = SystemRandomNumberGenerator()
        for _ in 0..<6 {
            for _ in 0..<25 {
                let state = ["0", "1", "2", "3", "5", "6", "7", "8", "9", "x", ""].randomElement(using: &random) ?? "5"
                try raw.store.write(raw.paths.backendPath + "/state", state)
                usleep(UInt32.random(in: 0...3000, using: &random))
            }
            if raw.frontend.failure != nil { break }
            try raw.store.write(raw.paths.backendPath + "/state", "6")
            usleep(20_000)
            try raw.connectAgain()
            #expect(try raw.serves())
        }
        raw.end()
        expectBaseline(raw.host, raw.baseline)
    }

    /// The device is taken away at every moment of its connecting.
    @Test func C8_removedWhileConnecting() throws {
        let host = InProcessHost()
        let client = try host.store.connectInProcess(domain: .zero)
        let toolstack = DeviceDirectories(store: client)
        let wire = try Wire("back")
        let backend = try RunningBackend(host, device: wire.network)
        let guest = host.domain(1)
        let baseline = host.usage
        for round in 0..<16 {
            let paths = try toolstack.create(VifSpecification(), frontend: DomainID(1))
            let front = try Wire("front")
            let frontend = try NetworkFrontend(hypervisor: guest, number: paths.device, device: front.network)
            try frontend.start()
            usleep(UInt32(round * 1000))
            try toolstack.remove(paths, force: true, milliseconds: 3000)
            frontend.close()
        }
        expectBaseline(host, baseline)
        backend.stop()
    }

    /// The backend closes, breaks the ring and the frontend is closed by its owner, all at once: one of them is first, and all is given back.
    @Test func C12_endsThatRace() throws {
        for round in 0..<20 {
            let raw = try RawBackend()
            let (store, path, frontend) = (raw.store, raw.paths.backendPath, raw.frontend)
            let closer = try WorkerThread(name: "closer") {
                usleep(UInt32(round * 53 % 400))
                frontend.close()
            }
            if round % 2 == 0 {
                raw.receive.region.storeReleasing(1 << 31, at: RingHeader.responseProduced)
                raw.ring()
            }
            try store.write(path + "/state", "5")
            usleep(UInt32(round * 97 % 500))
            try store.write(path + "/state", "6")
            closer.join()
            raw.end()
            expectBaseline(raw.host, raw.baseline)
        }
    }

    /// A header that changes after the response: what the device is told fits the frame that it gets.
    @Test func C16_headersThatChangeAfterTheResponse() throws {
        let raw = try RawBackend()
        var udp = [UInt8](repeating: 0, count: 100)
        udp[12] = 8
        udp[14] = 0x45
        udp[17] = 86
        udp[23] = 17
        var starts: Set<Int> = []
        for _ in 0..<300 {
            var request: ReceiveRequest?
            #expect(try eventually {
                request = try raw.receive.nextRequest()
                return request != nil
            })
            let posted = try #require(request)
            let page = try raw.hypervisor.mapGrants([posted.reference], of: DomainID(1), access: .readWrite)
            page[0].region.write(udp, at: page[0].offset)
            let (region, offset) = (page[0].region, page[0].offset + 14)
            let pest = try Pest { for byte: UInt8 in [0x45, 0x46, 0x4F] { region.store(byte, at: offset) } }
            raw.receive.push(ReceiveSlot(ReceiveResponse(id: posted.id, flags: .checksumBlank, status: 100)))
            _ = raw.receive.publish()
            raw.ring()
            let got = try raw.wire.receive(milliseconds: 20)
            pest.stop()
            raw.hypervisor.unmapGrants(page)
            guard let (header, frame) = got else { continue }
            let start = Int(header[6]) | Int(header[7]) << 8
            starts.insert(start)
            #expect(start == 14 + 4 * Int(frame[14] & 15))
        }
        #expect(starts.count > 1, "the pest ran")
        raw.end()
    }

    /// A backend that takes packets and answers nothing, and follows no state.
    @Test func C23_C27_aBackendThatAnswersNothing() throws {
        let raw = try RawBackend()
        for seed in 0..<2000 {
            // The socket is full in the end; nobody waits for it.
            let bytes = [UInt8](repeating: 0, count: 10) + plainFrame(200, seed: seed)
            _ = raw.wire.trySend(bytes)
        }
        usleep(200_000)
        #expect(raw.frontend.statistics[0].transmitted <= 256)
        #expect(try raw.serves(), "the other direction")
        // Some are answered: there is room for the largest frame again, and as many more go out, no more.
        for _ in 0..<40 {
            let request = try #require(try raw.transmit.nextRequest()).request
            raw.transmit.push(TransmitResponse(id: request.id, status: .okay))
        }
        let sent = raw.frontend.statistics[0].transmitted
        _ = raw.transmit.publish()
        raw.ring()
        #expect(eventually { raw.frontend.statistics[0].transmitted > sent })
        usleep(100_000)
        #expect(raw.frontend.statistics[0].transmitted <= sent + 40)
        let before = monotonicMilliseconds()
        raw.frontend.close()
        #expect(monotonicMilliseconds() - before < 3000)
        raw.end()
        expectBaseline(raw.host, raw.baseline)
    }

    /// It dies and comes back able to do less, then with fewer queues than there are.
    @Test func C24_aBackendThatComesBackDifferent() throws {
        let pair = try NetworkPair(backendDomain: 5)
        var wishes = NetworkFrontendOptions()
        wishes.queues = 2
        let frontend = try pair.connect(wishes)
        func exchange(_ size: Int) throws {
            for seed in 0..<20 {
                let frame = plainFrame(size, seed: seed)
                try pair.frontWire.send(frame)
                expectSame(try pair.backWire.receive()?.frame ?? [], frame)
                try pair.backWire.send(frame)
                expectSame(try pair.frontWire.receive()?.frame ?? [], frame)
            }
        }
        try exchange(6000)
        pair.backend.kill()
        var less = NetworkBackendOptions()
        less.features = []
        less.controlRing = false
        less.splitChannels = false
        let second = try RunningBackend(pair.host, domain: 5, less, device: pair.backWire.network)
        #expect(eventually(5000) { frontend.connectionCount == 2 && frontend.isLive })
        try exchange(1500)
        #expect(frontend.mappedPages == 0)
        second.kill()
        less.queues = 1
        let third = try RunningBackend(pair.host, domain: 5, less, device: pair.backWire.network)
        #expect(eventually(5000) { frontend.failure != nil })
        #expect(frontend.failure?.description.contains("multi-queue-max-queues") == true)
        frontend.close()
        third.stop()
    }

    /// A backend's directory in another domain than the toolstack names is not looked at; one that changes later changes nothing.
    @Test func C26_aBackendSomewhereElse() throws {
        for (path, id) in [("/local/domain/7/backend/vif/1/0", "0"), ("/local/domain/0/backend/vif/1/0", "7"), ("/tool/x", "0")] {
            let host = InProcessHost()
            let client = try host.store.connectInProcess(domain: .zero)
            let paths = try DeviceDirectories(store: client).create(VifSpecification(), frontend: DomainID(1))
            try client.write(paths.frontendPath + "/backend", path)
            try client.write(paths.frontendPath + "/backend-id", id)
            let frontend = try NetworkFrontend(hypervisor: host.domain(1), number: 0, device: try Wire("front").network)
            try frontend.start()
            #expect(eventually { frontend.failure != nil })
            #expect(frontend.failure?.description.contains("not in domain") == true)
            frontend.close()
        }
        let raw = try RawBackend()
        try raw.store.write(raw.paths.frontendPath + "/backend", "/local/domain/7/backend/vif/1/0")
        try raw.store.write(raw.paths.frontendPath + "/backend-id", "7")
        usleep(50_000)
        #expect(try raw.serves())
        raw.end()
    }

    /// The rings of an earlier connection are nobody's: what is written there, and who rings, is not looked at.
    @Test func C28_ringsOfAnEarlierConnection() throws {
        let raw = try RawBackend()
        #expect(try raw.serves())
        let (oldRings, oldBell) = (raw.rings, raw.bell)
        try raw.connectAgain()
        for lie: UInt32 in [5, 1 << 31, .max] {
            for ring in oldRings {
                ring.region.fill(64, count: 4032, with: UInt8(truncatingIfNeeded: lie))
                ring.region.storeReleasing(lie, at: RingHeader.responseProduced)
            }
            oldBell?.notify()
            #expect(try raw.serves())
        }
        #expect(raw.frontend.failure == nil)
        for ring in oldRings { ring.unmap() }
        oldBell?.close()
        raw.end()
        expectBaseline(raw.host, raw.baseline)
    }
}
