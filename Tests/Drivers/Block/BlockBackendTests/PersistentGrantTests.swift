// The cache of persistent grants under requests that name the same grant at once.

import BlockBackend
import BlockDevices
import BlockProtocol
import DriverRuntime
import LinuxSystem
import MockPeers
import ScriptedDevices
import SharedMemory
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(1))) struct PersistentGrantTests {
    /// Two requests have the same grant at the disk. The end of the one lets go of its own mapping, and of nothing that
    /// the other still reaches, though the cache wants the room for a third.
    @Test func A26_aGrantInUseIsNotGivenUpForTheEndOfAnotherUse() throws {
        var options = BlockBackendOptions()
        options.persistentGrantLimit = 1
        let disk = ScriptedDisk()
        let pair = try BlockPair(backendOptions: options, opener: { _ throws(DeviceOpenFailure) in disk })
        let raw = try MockBlockFrontend(pair, persistent: true)
        raw.send(raw.request(.write, sector: 0, page: 0, id: 1))
        #expect(disk.wait(for: 1))
        raw.send(raw.request(.write, sector: 8, page: 0, id: 2))
        #expect(disk.wait(for: 2))
        disk.end(1)
        #expect(try raw.receive().id == 2)
        let mapped = pair.host.usage.mappings
        raw.send(raw.request(.write, sector: 16, page: 1, id: 3))
        #expect(disk.wait(for: 3))
        #expect(pair.host.usage.mappings == mapped + 1)
        disk.end(0)
        #expect(try raw.receive().id == 1)
        disk.end(2)
        #expect(try raw.receive().id == 3)
        try raw.close()
        pair.backend.stop()
    }

    /// Where the frontend can tell what is mapped: of a host that is reached through Xen's libraries it cannot.
    @Test func A28_theOneThatWasUsedLongestAgoIsGivenUp() throws {
        var options = BlockBackendOptions()
        options.persistentGrantLimit = 2
        let pair = try BlockPair(backendOptions: options, opener: { _ throws(DeviceOpenFailure) in ScriptedDisk { _ in .done } })
        let raw = try MockBlockFrontend(pair, persistent: true)
        guard raw.data.isMapped(page: 0) != nil else { return pair.backend.stop() }
        func mapped(afterUsing pages: Int...) throws -> [Int] {
            for page in pages { #expect(try raw.ask(raw.request(.write, sector: 0, page: page)) == .okay) }
            return (0..<4).filter { raw.data.isMapped(page: $0) == true }
        }
        #expect(try mapped(afterUsing: 0, 1) == [0, 1])
        #expect(try mapped(afterUsing: 0, 2) == [0, 2])
        // One that was given up is mapped anew, and is not what has its place now.
        #expect(try mapped(afterUsing: 1) == [1, 2])
        #expect(try mapped(afterUsing: 3, 1) == [1, 3])
        try raw.close()
        #expect((0..<4).allSatisfy { raw.data.isMapped(page: $0) == false })
        pair.backend.stop()
    }

    /// A page of descriptors is used while they are copied, and no longer.
    @Test(arguments: [false, true]) func A29_aPageOfDescriptorsIsLetGoOf(_ persistent: Bool) throws {
        var options = BlockBackendOptions()
        options.persistentGrantLimit = 1
        let pair = try BlockPair(backendOptions: options, opener: { _ throws(DeviceOpenFailure) in ScriptedDisk { _ in .done } })
        let raw = try MockBlockFrontend(pair, persistent: persistent)
        let before = pair.host.usage.mappings
        raw.data.region.store(BlockSegment(raw.data.references[0]).word, at: 60 * 4096)
        var request = BlockRequest(indirect: .write, segmentCount: 1, sector: 0, id: 6)
        request.setIndirectReference(0, to: raw.data.references[60])
        for _ in 0..<3 { #expect(try raw.ask(request) == .okay) }
        #expect(try raw.ask(raw.request(.write, sector: 0, page: 1)) == .okay)
        #expect(raw.data.isMapped(page: 60) != true)
        #expect(eventually(1000) { pair.host.usage.mappings == before + (persistent ? 1 : 0) })
        try raw.close()
        pair.backend.stop()
    }
}
