// What a client believes of its daemon's answers, and what neither of them can say or do at all.

import Foundation
import Hypervisor
import HypervisorRules
import LinuxSystem
@testable import Loopback
import Testing
import TestSupport
import XenStore
import XenTypes

@Suite(.timeLimit(.minutes(1))) struct AnswerTests {
    /// What a client of a daemon of our own making hears when it maps two grants and gets this answer.
    private func mapping(answered answer: Answer) throws -> String {
        let (theirs, ours) = try PacketSocket.pair()
        let notices = try PacketSocket.pair()
        let daemon = try WorkerThread(name: "daemon") {
            for reply in [(Answer.welcome(DomainID(1)), [notices.0]), (answer, [])] {
                guard let (message, _) = try? PacketSocket.receive(theirs, descriptors: 0),
                    let (_, sequence) = try? Request.decode(message)
                else { return }
                try? PacketSocket.send(theirs, reply.0.encode(sequence: sequence), reply.1)
            }
        }
        defer { daemon.join() }
        let client = try LoopbackHypervisor(socket: ours, time: .system)
        do {
            _ = try client.mapGrants([GrantReference(8), GrantReference(9)], of: .zero, access: .readOnly)
            return "mapped"
        } catch { return "\(error)" }
    }

    @Test(arguments: [0, 3, 300]) func GT8_anAnswerOfAnotherLengthIsNoAnswer(_ results: Int) throws {
        let refused = Array(repeating: MapResult(status: .badPage), count: results)
        #expect(try mapping(answered: .mapped(refused, [])).contains("something else"))
    }

    /// One that says of a descriptor that it comes along, and it does not.
    @Test func GT8_moreRunsThanDescriptorsIsNoAnswer() throws {
        let run = RunAnnouncement(run: RunID(1), pages: 1, machine: MachineRun(start: 0, factor: 1, addend: 0))
        let results = [MapResult(status: .okay, handle: 1, run: RunID(1)), MapResult(status: .okay, handle: 2, run: RunID(1))]
        #expect(try mapping(answered: .mapped(results, [run])).contains("something else"))
    }

    /// A map names a granter, a direction and references, and nothing else: where the pages are to be is the kernel's
    /// to say.
    @Test func GT22_aMapHasNoPlaceToNameAPlace() throws {
        let references = (0..<5).map { GrantReference(8 + $0) }
        let sizes = (0...5).map { count in
            Request.map(granter: .zero, access: .readWrite, Array(references.prefix(count))).encode(sequence: 1).count
        }
        #expect(sizes == (0...5).map { sizes[0] + 4 * $0 })
        // Operation, sequence, domain, direction, count.
        #expect(sizes[0] == 2 + 4 + 2 + MemoryLayout<GrantAccess.RawValue>.size + 4)
        var longer = Request.map(granter: .zero, access: .readWrite, references).encode(sequence: 1)
        longer += [0, 0, 0, 0, 0, 0, 0, 64]
        #expect(throws: MalformedMessage.self) { _ = try Request.decode(longer) }
    }

    /// The mappings of this process that have `pages` pages, as the kernel lists them.
    private func mappings(ofPages pages: Int) throws -> [String] {
        // To its end: the kernel hands out a page or so at a time, and says of no such file how long it is.
        try #require(FileSystem.text(of: "/proc/self/maps")).split(separator: "\n").map(String.init).filter { line in
            let ends = line.prefix { $0 != " " }.split(separator: "-").compactMap { UInt64($0, radix: 16) }
            return line.contains("memfd:") && ends.count == 2 && ends[1] - ends[0] == UInt64(pages) * 4096
        }
    }

    /// A run is one mapping from its first use to its last, whichever pages of it are unmapped, twice, or not at all.
    @Test func D9_noMappingIsEverSplit() throws {
        let host = try TestHost()
        let front = try host.domain(1), back = try host.domain(0)
        let offer = try front.offerPages(37, to: .zero, access: .readWrite)
        let grants = try back.mapGrants(offer.references, of: DomainID(1), access: .readWrite)
        let whole = try mappings(ofPages: 37)
        #expect(whole.count == 2)
        for page in [1, 2, 2, 17, 35] { back.unmapGrants([grants[page]]) }
        #expect(try host.usage.mappings == 37 - 4)
        #expect(try mappings(ofPages: 37) == whole)
        grants[3].region.store(UInt8(7), at: grants[3].offset)
        #expect(offer.region.load(3 * 4096, as: UInt8.self) == 7)
        // A stray unmap is told from one of a mapping: with another's handle, of another's grant, or too late.
        back.unmapGrants(grants)
        back.unmapGrants(grants)
        #expect(try host.usage.mappings == 0)
        #expect(offer.withdraw())
    }

    /// What a domain's end is to the store: announced, and its connections end.
    @Test func XS10_aDomainsEndIsAnnouncedInTheStore() throws {
        let host = try TestHost()
        let zero = try host.domain(0), guest = try host.domain(1)
        let store = try zero.connectStore(), guests = try guest.connectStore()
        try store.watch("@releaseDomain", token: "r")
        #expect(try store.nextEvent(milliseconds: 5000) == WatchEvent(path: "@releaseDomain", token: "r"))
        try host.control.destroyDomain(DomainID(1))
        #expect(try store.nextEvent(milliseconds: 5000) == WatchEvent(path: "@releaseDomain", token: "r"))
        #expect(throws: StoreError.self) { _ = try guests.directory("/") }
    }
}
