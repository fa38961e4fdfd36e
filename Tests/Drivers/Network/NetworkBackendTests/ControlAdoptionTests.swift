// A backend dies under a frontend that has set things through the control ring: its successor goes on with them.

import Foundation
import Hypervisor
import LinuxSystem
import MockPeers
@testable import NetworkBackend
import NetworkFrontend
import NetworkProtocol
import Packets
import SharedMemory
import SharedRing
import Synchronization
import TestHosts
import Testing
import TestSupport
import XenTypes

@Suite("Adoption of control rings", .timeLimit(.minutes(2)), .serialized)
struct ControlAdoptionTests {
    private func options(_ directory: TemporaryDirectory) -> NetworkBackendOptions {
        var options = NetworkBackendOptions()
        options.journalDirectory = directory.path
        return options
    }

    /// Our own frontend keeps all its pages mapped: a successor maps them again, and no frame is copied by the
    /// hypervisor.
    @Test(arguments: [1, 3]) func mappedPagesStayMapped(queues: Int) throws {
        let directory = try TemporaryDirectory()
        let pair = try NetworkPair(options(directory), backendDomain: 3)
        var wishes = NetworkFrontendOptions()
        wishes.queues = queues
        let frontend = try pair.connect(wishes)
        #expect(frontend.mappedPages == 512 * queues)
        let mapped = pair.host.usage.mappings
        #expect(mapped >= 512 * queues)
        var backend = pair.backend
        for round in 0..<4 {
            backend.killAtOnce()
            backend = try RunningBackend(pair.host, domain: 3, options(directory), device: pair.backWire.network)
            try pair.exchange(30, seed: round * 100)
            #expect(eventually { backend.log.contains { $0.contains("taken over") } })
            #expect(eventually { pair.host.usage.mappings == mapped && backend.total.mappedFrames > 0 })
            #expect(backend.total.copiedFrames == 0)
            #expect(try pair.node("state") == "4")
        }
        #expect(frontend.connectionCount == 1 && frontend.failure == nil)
        frontend.close()
        #expect(eventually { directory.files.isEmpty }, "journals left")
        backend.stop()
    }

    /// Algorithm, kinds, key and mapping are what they were, and so are the pages; then they are changed and adopted
    /// once more.
    @Test func hashSettingsStay() throws {
        let directory = try TemporaryDirectory()
        let pair = try NetworkPair(options(directory), backendDomain: 3)
        let raw = try MockNetworkFrontend(pair, queues: 3)
        try raw.wait(for: [.connected])
        let page = raw.data.references[50].rawValue
        let key = (0..<40).map { UInt8($0 * 5 + 1) }
        raw.data.region.write(key, at: 50 * 4096)
        #expect(try raw.ask(7, 1).status == .success && raw.ask(2, 15).status == .success)
        #expect(try raw.ask(3, page, 40).status == .success && raw.ask(5, 128).status == .success)
        for index in 0..<128 { raw.data.region.store(UInt32(index % 3), at: 50 * 4096 + 4 * index) }
        #expect(try raw.ask(6, page, 128, 0).status == .success)
        try raw.map(Array(0..<48))
        try raw.map([60], queue: 2)
        // Pages that are on the ring while the backend dies.
        for queue in 0..<3 { raw.post(Array(queue * 16..<queue * 16 + 16), queue: queue) }
        let hash = ToeplitzHash(key: key)
        let mapped = pair.host.usage.mappings
        var backend = pair.backend
        func expectHashed(_ flows: Range<UInt8>, by wanted: ToeplitzHash) throws {
            for flow in flows {
                let frame = TestFrame(version: 4, transport: .udp, payload: 20, flow: flow)
                let expected = wanted.hash(frame.bytes[26..<34])
                try pair.backWire.send(frame.bytes)
                let queue = Int(expected % 128 % 3)
                _ = try raw.received(queue: queue)
                let extra = try raw.received(queue: queue).extra
                #expect(extra.type == .hash)
                #expect((0..<4).reduce(UInt32(0)) { $0 | UInt32(extra.byte($1 + 2)) << (8 * UInt32($1)) } == expected)
            }
        }
        try expectHashed(0..<5, by: hash)
        for round in 0..<3 {
            backend.killAtOnce()
            backend = try RunningBackend(pair.host, domain: 3, options(directory), device: pair.backWire.network)
            try expectHashed(UInt8(5 + round * 3)..<UInt8(8 + round * 3), by: hash)
            #expect(try raw.state() == .connected)
            #expect(eventually { pair.host.usage.mappings == mapped })
        }
        // The control ring itself goes on, too.
        #expect(try raw.ask(10, 2, listing(60, raw), 1).status == .success)
        raw.data.region.write(Array(repeating: 7, count: 10), at: 50 * 4096)
        #expect(try raw.ask(3, page, 10).status == .success)
        for queue in 0..<3 { raw.post(Array(16 + queue * 8..<24 + queue * 8), queue: queue) }
        backend.killAtOnce()
        backend = try RunningBackend(pair.host, domain: 3, options(directory), device: pair.backWire.network)
        try expectHashed(20..<26, by: ToeplitzHash(key: Array(repeating: 7, count: 10)))
        #expect(eventually { pair.host.usage.mappings == mapped - 1 })
        #expect(!backend.log.contains { $0.contains("cannot take over") })
        try raw.close()
        #expect(eventually { directory.files.isEmpty }, "journals left")
        backend.stop()
    }

    /// Writes a list of one page into page 62; the list's reference.
    private func listing(_ page: Int, _ raw: MockNetworkFrontend) -> UInt32 {
        raw.data.region.store(GrantMappingEntry(reference: raw.data.references[page], isReadOnly: false).word, at: 62 * 4096)
        return raw.data.references[62].rawValue
    }

    /// Requests that nobody took, or nobody answered, when the backend died are answered by the next, once each and in
    /// order.
    @Test func requestsThatWaitAreAnswered() throws {
        let directory = try TemporaryDirectory()
        let pair = try NetworkPair(options(directory), backendDomain: 3)
        let raw = try MockNetworkFrontend(pair)
        try raw.wait(for: [.connected])
        #expect(try raw.ask(7, 1).status == .success)
        pair.backend.killAtOnce()
        for id in 0..<20 { _ = raw.control.push(ControlRequest(id: UInt16(id), rawType: 5, UInt32(id))) }
        if raw.control.publish() { raw.controlBell.notify() }
        let next = try RunningBackend(pair.host, domain: 3, options(directory), device: pair.backWire.network)
        for id in 0..<20 {
            let answer = try raw.controlAnswer(5)
            #expect(answer.id == UInt16(id) && answer.status == .success)
        }
        #expect(try raw.state() == .connected)
        try raw.close()
        next.stop()
    }

    /// What cannot be trusted is not gone on from: the frontend connects anew, by itself, and nothing is left mapped.
    @Test(arguments: ["record", "table", "magic", "missing", "indices"]) func aDamagedJournalMeansAnotherConnection(_ what: String)
        throws
    {
        let directory = try TemporaryDirectory()
        let pair = try NetworkPair(options(directory), backendDomain: 3)
        let frontend = try pair.connect()
        let usage = pair.host.usage
        pair.backend.killAtOnce()
        let name = "\(directory.path)/vif-1-0-control.journal"
        let file = try #require(FileHandle(forUpdatingAtPath: name))
        func flip(_ offset: Int) throws {
            try file.seek(toOffset: UInt64(offset))
            let read = try file.read(upToCount: 1)
            guard let byte = read?.first else { throw TimedOut("\(name) has no byte \(offset)") }
            try file.seek(toOffset: UInt64(offset))
            try file.write(contentsOf: Data([byte ^ 0x40]))
        }
        typealias Layout = ControlJournal.Layout
        switch what {
        case "magic": try flip(Layout.magic)
        case "missing": try FileManager.default.removeItem(atPath: name)
        // Both tables; only one counts.
        case "table":
            try flip(Layout.tables + 5 * 8)
            try flip(Layout.tables + (NetworkBackendOptions().grantMappings + 5) * 8)
        case "indices":
            // An older record than what was shown: the latest is spoilt.
            let words = try (0...1).map { number -> UInt32 in
                try file.seek(toOffset: UInt64(Layout.records + number * Layout.recordSize))
                let bytes = try #require(try file.read(upToCount: 4))
                return bytes.reversed().reduce(0) { $0 << 8 | UInt32($1) }
            }
            try flip(Layout.records + (words[1] > words[0] ? 1 : 0) * Layout.recordSize + 100)
        default: for number in 0...1 { try flip(Layout.records + number * Layout.recordSize + 4) }
        }
        try file.close()
        let next = try RunningBackend(pair.host, domain: 3, options(directory), device: pair.backWire.network)
        #expect(eventually(5000) { frontend.connectionCount == 2 && frontend.isLive })
        #expect(next.log.contains { $0.contains("cannot take over") })
        #expect(frontend.mappedPages == 512)
        try pair.frontWire.send(plainFrame(100))
        #expect(try pair.backWire.receive()?.frame == plainFrame(100))
        expectBaseline(pair.host, usage)
        frontend.close()
        // Before the backend is told to stop, which would hand over what is not closed yet.
        #expect(eventually { directory.files.isEmpty })
        next.stop()
    }

    /// A frontend that takes back pages that it had mapped, while nobody is there: they cannot be mapped again, so all
    /// is closed.
    @Test(.inProcess("through the libraries pages go with their last reference only")) func pagesThatAreGone() throws {
        let directory = try TemporaryDirectory()
        let pair = try NetworkPair(options(directory), backendDomain: 3)
        let raw = try MockNetworkFrontend(pair, queues: 2)
        try raw.wait(for: [.connected])
        try raw.map([1, 2, 3])
        let gone = try raw.hypervisor.offerPages(1, to: DomainID(3), access: .readWrite)
        raw.data.region.store(GrantMappingEntry(reference: gone.references[0], isReadOnly: false).word, at: 62 * 4096)
        #expect(try raw.ask(9, 1, raw.data.references[62].rawValue, 1).status == .success)
        pair.backend.killAtOnce()
        gone.withdraw()
        let next = try RunningBackend(pair.host, domain: 3, options(directory), device: pair.backWire.network)
        try raw.wait(for: [.closing])
        #expect(next.log.contains { $0.contains("cannot be mapped again") })
        let mapped = pair.host.usage.mappings
        #expect(mapped == 0, "\(mapped) pages are still mapped")
        try raw.close()
        next.stop()
        #expect(eventually { directory.files.isEmpty })
    }

    /// Something that a frontend sets; true if it is which pages stay mapped.
    private func change(_ settings: inout ControlSettings, _ round: Int) -> Bool {
        switch Int.random(in: 0..<4) {
        case 0:
            settings.scaling.algorithm = Bool.random() ? .toeplitz : .none
            settings.scaling.types = HashTypes(rawValue: .random(in: 0...15))
        case 1:
            settings.scaling.toeplitz = ToeplitzHash(key: (0..<Int.random(in: 0...40)).map { _ in .random(in: 0...255) })
        case 2:
            settings.scaling.mapping = (0..<Int.random(in: 0...128)).map { _ in .random(in: 0..<2) }
        default:
            settings.mappings = settings.mappings.map { _ in
                (0..<Int.random(in: 0...12)).map {
                    GrantMappingEntry(reference: GrantReference(UInt32(100 * round + $0)), isReadOnly: .random())
                }
            }
            return true
        }
        return false
    }

    /// A kill after any store, and any one word changed: a successor finds what was before the request or what is after
    /// it, or says no.
    @Test func atEveryStoreAndWithEveryWordChanged() throws {
        let (capacity, queues) = (24, 2)
        let keys = ControlKeys(ring: GrantReference(8), port: EventPort(3))
        let size = ControlJournal.Layout.byteCount(capacity: capacity)
        let memory = try SharedRegion(anonymous: size)
        let copy = try SharedRegion(anonymous: size)
        var random = SystemRandomNumberGenerator()
        @Sendable func sorted(_ settings: ControlSettings) -> ControlSettings {
            var settings = settings
            settings.mappings = settings.mappings.map { $0.sorted { $0.word < $1.word } }
            return settings
        }
        func recover(_ region: SharedRegion, shown: RingIndex) throws -> ControlSettings {
            sorted(try ControlRecovery(journal: region, of: keys, queues: queues, responseProduced: shown.rawValue).settings)
        }
        var journal = ControlJournal(beginning: memory, of: keys, queues: queues, capacity: capacity)
        var now = ControlSettings(mappings: [[], []])
        #expect(try recover(memory, shown: RingIndex(0)) == now)
        for round in 0..<60 {
            let (before, shown) = (now, now.answered)
            let changes = change(&now, round)
            now.answered.advance()
            now.last = ControlResponse(id: UInt16(round), rawType: 5, rawStatus: 0, data: .random(in: 0 ... .max, using: &random))
            let wanted = (sorted(before), sorted(now))
            let places = Mutex((stores: 0, wrong: 0, last: false))
            journal.observer = {
                let found = try? ControlRecovery(
                    journal: memory, of: keys, queues: queues, responseProduced: shown.rawValue
                ).settings
                places.withLock {
                    $0.stores += 1
                    let isNew = found.map(sorted) == wanted.1
                    // Once it is taken it stays taken.
                    if !isNew, $0.last || found.map(sorted) != wanted.0 { $0.wrong += 1 }
                    $0.last = isNew
                }
            }
            journal.answered(now, mappingsChanged: changes)
            journal.observer = nil
            let seen = places.withLock { $0 }
            #expect(seen.stores > 150 && seen.wrong == 0 && seen.last)
            // A successor, now and then.
            if round % 7 == 0 {
                journal = ControlJournal(
                    resuming: memory,
                    from: try ControlRecovery(journal: memory, of: keys, queues: queues, responseProduced: now.answered.rawValue))
            }
            guard round % 10 == 9 else { continue }
            for place in stride(from: 0, to: size, by: 4) {
                copy.copy(from: memory, 0, count: size, to: 0)
                copy.storeRelaxed(copy.loadRelaxed(place) ^ (1 << UInt32.random(in: 0..<32, using: &random)), at: place)
                // The frontend has seen the last answer: nothing but the last will do.
                if let found = try? recover(copy, shown: now.answered) { #expect(found == sorted(now), "word at \(place)") }
            }
        }
    }
}
