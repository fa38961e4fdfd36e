// A backend dies under a frontend that has named multicast addresses: its successor keeps the same frames away.

import DriverRuntime
import Foundation
import LinuxSystem
import MockPeers
@testable import NetworkBackend
import NetworkProtocol
import SharedMemory
import Synchronization
import Testing
import TestSupport
import XenTypes

@Suite("Adoption of multicast addresses", .timeLimit(.minutes(2)), .serialized)
struct MulticastAdoptionTests {
    private func options(_ directory: TemporaryDirectory) -> NetworkBackendOptions {
        var options = NetworkBackendOptions()
        options.journalDirectory = directory.path
        return options
    }

    private func address(_ last: UInt8) -> MACAddress { MACAddress(littleEndian: 0x5E_0001 | UInt64(last) << 40) }

    private func frame(to last: UInt8) -> [UInt8] {
        var frame = plainFrame(60, seed: 3)
        frame.replaceSubrange(0..<6, with: [1, 0, 0x5E, 0, 0, last])
        return frame
    }

    private func set(_ raw: MockNetworkFrontend, _ last: UInt8, _ isAdded: Bool) throws -> NetworkStatus {
        raw.send([
            raw.request(size: 0, flags: .extraInfo), TransmitSlot(ExtraInfo(multicast: address(last), isAdded: isAdded)),
        ])
        return try raw.answers(2)[0].status
    }

    /// Which of frames for the groups `all` come through; a frame for the frontend itself tells that no more will.
    private func arriving(_ raw: MockNetworkFrontend, of pair: NetworkPair, _ all: [UInt8]) throws -> [UInt8] {
        raw.post(Array(0...all.count))
        for last in all { try pair.backWire.send(frame(to: last)) }
        try pair.backWire.send(plainFrame(77, seed: 9))
        var found: [UInt8] = []
        while true {
            let response = try raw.received().response
            if response.status == 77 { break }
            found.append(raw.data.region.load(Int(response.id) * 4096 + 5, as: UInt8.self))
        }
        return found
    }

    private func succeed(_ pair: NetworkPair, _ backend: RunningBackend, _ directory: TemporaryDirectory) throws -> RunningBackend {
        backend.killAtOnce()
        return try RunningBackend(pair.host, domain: 3, options(directory), device: pair.backWire.network)
    }

    @Test func theSuccessorFiltersAsItsPredecessorDid() throws {
        let directory = try TemporaryDirectory()
        let pair = try NetworkPair(options(directory), backendDomain: 3)
        let raw = try MockNetworkFrontend(pair, keys: ["request-multicast-control": "1"])
        try raw.wait(for: [.connected])
        #expect(try set(raw, 7, true) == .okay && set(raw, 8, true) == .okay && set(raw, 8, false) == .okay)
        #expect(try arriving(raw, of: pair, [6, 7, 8]) == [7])
        var backend = try succeed(pair, pair.backend, directory)
        #expect(try arriving(raw, of: pair, [6, 7, 8]) == [7])
        // Its list can be changed, and outlives it, too.
        #expect(try set(raw, 6, true) == .okay && set(raw, 7, false) == .okay)
        #expect(try arriving(raw, of: pair, [6, 7, 8]) == [6])
        backend = try succeed(pair, backend, directory)
        #expect(try arriving(raw, of: pair, [6, 7, 8]) == [6])
        // A full list is full for the next, too.
        for last in UInt8(100)..<163 { #expect(try set(raw, last, true) == .okay) }
        #expect(try set(raw, 200, true) == .error)
        backend = try succeed(pair, backend, directory)
        #expect(try set(raw, 200, true) == .error && set(raw, 162, true) == .okay)
        #expect(try arriving(raw, of: pair, [5, 6, 100, 162, 163, 200]) == [6, 100, 162])
        #expect(!backend.log.contains { $0.contains("not known any more") })
        try raw.close()
        #expect(eventually { directory.files.isEmpty }, "journals left")
        backend.stop()
    }

    /// Whether the frontend chooses may change at any time, and while nobody is there.
    @Test func controlThatComesAndGoes() throws {
        let directory = try TemporaryDirectory()
        let pair = try NetworkPair(options(directory), backendDomain: 3)
        let raw = try MockNetworkFrontend(pair)
        try raw.wait(for: [.connected])
        func choose(_ isOn: Bool) throws {
            try pair.toolstack.store.write(pair.paths.frontendPath + "/request-multicast-control", isOn ? "1" : "0")
        }
        #expect(try arriving(raw, of: pair, [6]) == [6])
        var backend = try succeed(pair, pair.backend, directory)
        #expect(try arriving(raw, of: pair, [6]) == [6])
        try choose(true)
        #expect(try eventually { try set(raw, 7, true) == .okay })
        backend = try succeed(pair, backend, directory)
        #expect(try arriving(raw, of: pair, [6, 7]) == [7])
        // Off while nobody is there.
        backend.killAtOnce()
        try choose(false)
        backend = try RunningBackend(pair.host, domain: 3, options(directory), device: pair.backWire.network)
        #expect(try arriving(raw, of: pair, [6, 7]) == [6, 7])
        // On, likewise: with no addresses.
        backend.killAtOnce()
        try choose(true)
        backend = try RunningBackend(pair.host, domain: 3, options(directory), device: pair.backWire.network)
        #expect(try arriving(raw, of: pair, [6, 7]) == [])
        backend = try succeed(pair, backend, directory)
        #expect(try arriving(raw, of: pair, [6, 7]) == [])
        try raw.close()
        backend.stop()
    }

    /// What cannot be trusted is not filtered by, now or by later successors; nothing else suffers. A frontend that
    /// chooses anew is believed.
    @Test(arguments: ["record", "latest", "magic", "missing", "short", "another"])
    func aDamagedListLetsAllThrough(_ what: String) throws {
        let directory = try TemporaryDirectory()
        let pair = try NetworkPair(options(directory), backendDomain: 3)
        let raw = try MockNetworkFrontend(pair, keys: ["request-multicast-control": "1"])
        try raw.wait(for: [.connected])
        #expect(try set(raw, 7, true) == .okay && set(raw, 8, true) == .okay)
        #expect(try arriving(raw, of: pair, [6, 7, 8]) == [7, 8])
        pair.backend.killAtOnce()
        let name = "\(directory.path)/vif-1-0-multicast.journal"
        var bytes = try Data(contentsOf: URL(fileURLWithPath: name))
        typealias Layout = MulticastJournal.Layout
        switch what {
        case "magic": bytes[0] ^= 1
        case "another": bytes[4] ^= 1
        case "latest": bytes[Layout.latest] ^= 2
        case "short": bytes = bytes.prefix(2048)
        case "missing": try FileManager.default.removeItem(atPath: name)
        default: bytes[Layout.record(2) + 4 * Layout.firstAddress] ^= 0x40
        }
        if what != "missing" { try bytes.write(to: URL(fileURLWithPath: name)) }
        var backend = try RunningBackend(pair.host, domain: 3, options(directory), device: pair.backWire.network)
        #expect(try arriving(raw, of: pair, [6, 7, 8]) == [6, 7, 8])
        #expect(eventually { backend.log.contains { $0.contains("not known any more") } })
        #expect(try set(raw, 9, true) == .okay && set(raw, 7, false) == .okay)
        #expect(try arriving(raw, of: pair, [6, 7, 8]) == [6, 7, 8])
        backend = try succeed(pair, backend, directory)
        #expect(try arriving(raw, of: pair, [6, 7, 8]) == [6, 7, 8])
        for isOn in ["0", "1"] {
            try pair.toolstack.store.write(pair.paths.frontendPath + "/request-multicast-control", isOn)
            let wanted: NetworkStatus = isOn == "1" ? .okay : .error
            #expect(try eventually { try set(raw, 7, true) == wanted })
        }
        #expect(try arriving(raw, of: pair, [6, 7, 8]) == [7])
        #expect(try raw.state() == .connected)
        try raw.close()
        backend.stop()
    }

    /// A kill after any store, and any one word changed: a successor finds what was before the request or what is after
    /// it, or says no.
    @Test func atEveryStoreAndWithEveryWordChanged() throws {
        let keys = NetworkQueueKeys(transmit: GrantReference(8), receive: GrantReference(9), port: EventPort(3))
        let size = MulticastJournal.Layout.byteCount
        let (memory, copy) = (try SharedRegion(anonymous: size), try SharedRegion(anonymous: size))
        var random = SystemRandomNumberGenerator()
        var now = MulticastFilter(isOn: true)
        var journal = MulticastJournal(beginning: memory, of: keys, now)
        #expect(MulticastRecovery(journal: memory, of: keys)?.filter == now)
        for round in 0..<400 {
            let before = now
            while now == before {
                switch Int.random(in: 0..<30, using: &random) {
                case 0: now.setControl(.random(using: &random))
                case 1: now = MulticastFilter(isOn: true, isIncomplete: true)
                default:
                    // More often one more than one less, so that the list is full now and then.
                    let place = UInt8.random(in: 0..<80, using: &random)
                    _ = now.set(address(place), isAdded: .random(in: 0..<4, using: &random) > 0)
                }
            }
            let (old, new) = (before, now)
            let seen = Mutex((stores: 0, wrong: 0, last: false))
            journal.observer = {
                let found = MulticastRecovery(journal: memory, of: keys)?.filter
                seen.withLock {
                    $0.stores += 1
                    // Once it is there it stays.
                    if found != new, $0.last || found != old { $0.wrong += 1 }
                    $0.last = found == new
                }
            }
            journal.changed(now)
            journal.observer = nil
            let end = seen.withLock { $0 }
            #expect(end.stores == MulticastJournal.Layout.wordCount + 2 && end.wrong == 0 && end.last)
            // A successor, now and then; sometimes of one that was killed before it had said which record is the
            // latest.
            if round % 7 == 0 {
                if round % 2 == 0 {
                    let latest = UInt16(truncatingIfNeeded: memory.loadRelaxed(MulticastJournal.Layout.latest))
                    memory.storeRelaxed(MulticastJournal.Layout.word(latest &- 1), at: MulticastJournal.Layout.latest)
                }
                let found = try #require(MulticastRecovery(journal: memory, of: keys))
                #expect(found.filter == now)
                journal = MulticastJournal(resuming: memory, from: found)
            }
            guard round % 20 == 19 else { continue }
            for place in stride(from: 0, to: size, by: 4) {
                copy.copy(from: memory, 0, count: size, to: 0)
                copy.storeRelaxed(copy.loadRelaxed(place) ^ (1 << UInt32.random(in: 0..<32, using: &random)), at: place)
                if let found = MulticastRecovery(journal: copy, of: keys) { #expect(found.filter == now, "word at \(place)") }
            }
        }
    }

    /// Numbers that make no sense under a checksum that is right: refused, and nothing is read past the record.
    @Test func whatIsWholeAndMakesNoSense() throws {
        let keys = NetworkQueueKeys(transmit: GrantReference(8), receive: GrantReference(9), port: EventPort(3))
        let memory = try SharedRegion(anonymous: MulticastJournal.Layout.byteCount)
        typealias Layout = MulticastJournal.Layout
        func isBelieved(_ change: (inout [UInt32]) -> Void) -> Bool {
            var filter = MulticastFilter(isOn: true)
            for last: UInt8 in 1...3 { _ = filter.set(address(last), isAdded: true) }
            _ = MulticastJournal(beginning: memory, of: keys, filter)
            var words = (0..<Layout.wordCount).map { memory.loadRelaxed(Layout.record(0) + 4 * $0) }
            change(&words)
            ChecksummedWords(in: memory, at: Layout.record(0)).store(words)
            return MulticastRecovery(journal: memory, of: keys) != nil
        }
        #expect(isBelieved { _ in })
        #expect(isBelieved { $0[2] = 2 }, "one less")
        for count: UInt32 in [4, 64, 65, 1 << 31, .max] { #expect(!isBelieved { $0[2] = count }) }
        #expect(!isBelieved { $0[1] = 4 } && !isBelieved { $0[1] = 0 } && !isBelieved { $0[1] = 2 })
        #expect(!isBelieved { $0[Layout.firstAddress] &= ~1 }, "a single host's address")
        #expect(!isBelieved { $0[Layout.firstAddress + 1] |= 1 << 16 }, "more than 48 bits")
        #expect(!isBelieved { $0.replaceSubrange(5...6, with: $0[3...4]) }, "one twice")
        #expect(!isBelieved { $0[0] = 2 }, "another record's number")
    }
}
