// What is cleared up after a request that fails: what was its own, and nothing else.

import BlockBackend
import BlockDevices
import BlockProtocol
import DriverRuntime
import Hypervisor
import LinuxSystem
import MockPeers
import ScriptedDevices
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenTypes

@Suite(.timeLimit(.minutes(1))) struct CleanUpTests {
    /// Each slot of the table had pages mapped before, and a request in it fails at every place, for every reason. What
    /// another guest's requests have mapped all along stays mapped.
    @Test(arguments: [false, true]) func A12_whatWasNeverMappedForAFailedRequestIsNotUnmapped(_ persistent: Bool) throws {
        let held = ScriptedDisk()
        let opener: DiskOpener = { (settings) throws(DeviceOpenFailure) in
            if settings.target.hasSuffix("other.img") { return held }
            return try openFile(settings)
        }
        let pair = try BlockPair(opener: opener)
        let image = pair.scratch.image("other.img", byteCount: 4 << 20)
        let paths = try pair.toolstack.create(.init(try DiskSpecification(parsing: image + ",raw,xvda,w"), frontend: DomainID(2)))
        let other = try MockBlockFrontend(pair.host.domain(2), paths, persistent: persistent)
        for id in 0..<32 { other.send(other.request(.write, sector: UInt64(id) * 8, page: id, id: UInt64(id))) }
        try #require(held.wait(for: 32))

        let raw = try MockBlockFrontend(pair, persistent: persistent)
        for count in [1, 3, 11] {
            for bad in 0..<count {
                // As many as there are slots, with all the pages that a request may have; then as many that fail.
                try fill(raw) { _ in (0..<11).map { BlockSegment(raw.data.references[$0]) } }
                try fill(raw, expecting: .error) { id in
                    (0..<count).map { page in
                        let good = raw.data.references[20 + page]
                        if page != bad { return BlockSegment(good) }
                        return id % 2 == 0 ? BlockSegment(GrantReference(31_000)) : BlockSegment(good, first: 5, last: 3)
                    }
                }
            }
        }
        #expect(pair.host.strayUnmaps == 0)
        #expect((0..<32).allSatisfy { other.data.isMapped(page: $0) != false })
        for index in 0..<32 { held.end(index) }
        for _ in 0..<32 { #expect(try other.receive().status == .okay) }
        try raw.close()
        try other.close()
        pair.backend.stop()
        #expect(pair.host.strayUnmaps == 0)
    }

    /// Asks a ring full of requests.
    private func fill(
        _ raw: MockBlockFrontend, expecting status: BlockStatus = .okay, _ segments: (Int) -> [BlockSegment]
    ) throws {
        for id in 0..<32 {
            var request = BlockRequest(id % 4 < 2 ? .read : .write, id: UInt64(id), sector: 0)
            for segment in segments(id) { request.append(segment) }
            _ = raw.front.push(request)
        }
        if raw.front.publish() { raw.channel.notify() }
        for _ in 0..<32 { #expect(try raw.receive().status == status) }
    }
}
