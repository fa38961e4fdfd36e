// Three looks that are the same whatever was done: nothing is held that was not before, whoever behaves is served, and
// nobody sees a byte that was not granted.

import BlockBackend
import BlockProtocol
import Foundation
import Hypervisor
import LinuxSystem
import MockPeers
import SharedMemory
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenStore
import XenTypes

@Suite(.serialized, .timeLimit(.minutes(2))) struct SweepTests {
    private let mark = Canary(0xC0FFEE)

    @Test(arguments: Attack.allCases)
    func M6_M7_M10_anAttackLeavesNothingKeepsNobodyOutAndShowsNothing(_ attack: Attack) throws {
        let pair = try BlockPair()
        let victim = try Victim(pair, mark)
        try victim.works()
        // A connection as any other, so that what is made once is made.
        try MockBlockFrontend(pair).close()
        let before = HeldResources.settled(pair.host)
        try pair.restartFrontend()
        try suffer(attack, pair, victim)
        #expect(eventually(3000) { HeldResources(pair.host) == before }, "\(before) before, \(HeldResources(pair.host)) after")
        try victim.close()
        pair.backend.stop()
    }

    private func suffer(_ attack: Attack, _ pair: BlockPair, _ victim: Victim) throws {
        let isPersistent = attack != .readOnlyGrant
        var raw = try MockBlockFrontend(pair, persistent: isPersistent)
        try raw.perform(attack)
        try victim.works()
        #expect(shown(to: raw, pair) == [])
        if attack.endsConnection {
            try raw.close()
            try pair.restartFrontend()
            raw = try MockBlockFrontend(pair, persistent: isPersistent)
        }
        try expectThousandServed(raw)
        try victim.works()
        let begun = monotonicMilliseconds()
        try raw.close()
        #expect(monotonicMilliseconds() - begun < 1000)
    }

    @Test func M10_aMarkThatIsShownIsFound() throws {
        let region = try SharedRegion(anonymous: 8192)
        #expect(!mark.isIn(region))
        for place in [0, 1, 4091, 8192 - 8] {
            region.fill(0, count: 8192, with: 0)
            region.write(mark.bytes(16 + place % 8).suffix(8), at: place)
            #expect(mark.isIn(region), "\(place)")
        }
        #expect(mark.isIn(Data("x \(mark.text)".utf8)) && !mark.isIn(Data(mark.bytes(5))))
        #expect(!Canary(1).isIn(Data(mark.bytes(64))))
    }

    /// Another guest on the same backend. All that it has is marked.
    private struct Victim {
        let disk: MockBlockFrontend
        private let unseen: any OfferedPages
        private let mark: Canary

        init(_ pair: BlockPair, _ mark: Canary) throws {
            self.mark = mark
            let image = pair.scratch.path + "/victim.img"
            try Data(mark.bytes(1 << 20)).write(to: URL(fileURLWithPath: image))
            let paths = try pair.toolstack.create(
                .init(try DiskSpecification(parsing: image + ",raw,xvda,w"), frontend: DomainID(2)))
            disk = try MockBlockFrontend(pair.host.domain(2), paths, persistent: true)
            mark.paint(disk.data.region)
            unseen = try disk.hypervisor.offerPages(4, to: DomainID(3), access: .readWrite)
            mark.paint(unseen.region)
            try disk.store.write(disk.path + "/note", mark.text)
        }

        /// Reads and writes what is marked.
        func works() throws {
            for page in 0..<32 {
                let operation: BlockOperationCode = page % 2 == 0 ? .read : .write
                #expect(try disk.ask(disk.request(operation, sector: UInt64(page) * 8, page: page)) == .okay)
            }
        }

        func close() throws {
            #expect(disk.data.region.bytes(at: 0, count: 32 * 4096) == mark.bytes(32 * 4096))
            try disk.close()
            unseen.withdraw()
        }
    }

    /// Everything that the attacker can look at, and in which the mark is.
    private func shown(to raw: MockBlockFrontend, _ pair: BlockPair) -> [String] {
        var found: [String] = []
        if mark.isIn(raw.ring.region) { found.append("its ring") }
        if mark.isIn(raw.data.region) { found.append("its pages") }
        if mark.isIn((try? Data(contentsOf: URL(fileURLWithPath: pair.image))) ?? Data()) { found.append("its disk") }
        for granter in 0..<4 as Range<UInt16> where granter != 1 {
            for reference in 0..<600 as Range<UInt32> {
                let grants = try? raw.hypervisor.mapGrants([GrantReference(reference)], of: DomainID(granter), access: .readOnly)
                for grant in grants ?? [] where mark.isIn(Data(grant.region.bytes(at: grant.offset, count: 4096))) {
                    found.append("grant \(reference) of domain \(granter)")
                }
                raw.hypervisor.unmapGrants(grants ?? [])
            }
        }
        var open = ["/"]
        while let path = open.popLast() {
            if let value = try? raw.store.read(path), mark.isIn(Data(value.utf8)) { found.append(path) }
            open += ((try? raw.store.directory(path)) ?? []).map { path == "/" ? "/\($0)" : "\(path)/\($0)" }
            // Where a directory may not be listed, its names may be guessed.
            if path == "/" { open += ["/local/domain/2/device/vbd/51712", "/local/domain/2/device/vbd/51712/note"] }
        }
        return found
    }

    /// A thousand good requests, their data right.
    private func expectThousandServed(_ raw: MockBlockFrontend) throws {
        for round in 0..<16 {
            func byte(_ slot: Int) -> UInt8 { UInt8(truncatingIfNeeded: round * 31 + slot + 1) }
            for slot in 0..<32 { raw.data.region.fill(slot * 4096, count: 4096, with: byte(slot)) }
            try expectOkay(raw, .write)
            for slot in 0..<32 { raw.data.region.fill(slot * 4096, count: 4096, with: 0) }
            try expectOkay(raw, .read)
            for slot in 0..<32 {
                let word = UInt64(byte(slot)) &* 0x0101_0101_0101_0101
                #expect(raw.data.region.load(slot * 4096) == word && raw.data.region.load(slot * 4096 + 4088) == word)
            }
        }
    }

    private func expectOkay(_ raw: MockBlockFrontend, _ operation: BlockOperationCode) throws {
        for slot in 0..<32 {
            _ = raw.front.push(raw.request(operation, sector: UInt64(slot) * 8, page: slot, id: UInt64(slot)))
        }
        if raw.front.publish() { raw.channel.notify() }
        for _ in 0..<32 { try #require(try raw.receive().status == .okay) }
    }
}
