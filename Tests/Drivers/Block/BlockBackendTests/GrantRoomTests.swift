// Limits on mapped grants: said when a device connects and when a request fails for them, harmless to the others.

@testable import BlockBackend
import BlockFrontend
import BlockProtocol
import Hypervisor
import HypervisorRules
import LinuxSystem
import MockPeers
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenTypes

@Suite("Room for grants", .timeLimit(.minutes(1))) struct GrantRoomTests {
    private func host(maptrack: Int) -> TestHost {
        var limits = HypervisorLimits()
        limits.maptrack = maptrack
        return TestHost(limits: limits, time: .system)
    }

    private func error(_ pair: BlockPair) throws -> String {
        try pair.toolstack.store.value("/local/domain/0/error/backend/vbd/1/51712/error") ?? ""
    }

    @Test func theNeedOfADeviceIsItsRingsAndALargestRequestAQueue() {
        let queue = QueueKeys(ring: [1, 2, 3, 4].map { GrantReference($0) }, port: EventPort(1))
        let keys = BlockRequestKeys(abi: nil, persistent: true, queues: [queue, queue])
        #expect(GrantNeed(keys, indirectSegments: 0).least == 2 * (4 + 11))
        #expect(GrantNeed(keys, indirectSegments: 256).least == 2 * (4 + 256 + 1))
        #expect(GrantNeed(keys, indirectSegments: 4096).least == 2 * (4 + 4096 + 8))
        let need = GrantNeed(keys, indirectSegments: 256)
        #expect(need.kept(of: 4352, in: GrantRoom(limit: 100_000, used: 0, setting: "x")) == 4352)
        #expect(need.kept(of: 4352, in: GrantRoom(limit: 1000, used: 100, setting: "x")) == (900 - 522) / 2)
        #expect(need.kept(of: 4352, in: GrantRoom(limit: 10, used: 100, setting: "x")) == 0)
    }

    @Test(.inProcess("through Xen's libraries the limit is vm.max_map_count"))
    func aDeviceThatNeedsMoreThanThereIsIsRefusedByNumbers_andServedOnceThereIsRoom() throws {
        let pair = try BlockPair(host: host(maptrack: 100))
        let baseline = pair.host.usage
        #expect(throws: BlockFrontendError.self) { _ = try pair.connect() }
        let wanted = "this device needs 258 grants mapped at the least, the limit is 100: 0 of maptrack 100 are in use"
        #expect(try error(pair) == "28 \(wanted)")
        #expect(pair.backend.log.filter { $0.contains("needs") } == ["vbd 1/51712: \(wanted)"])
        #expect(pair.host.usage.mappings == baseline.mappings)
        pair.backend.stop()
        // Requests of 11 pages find room.
        var less = BlockBackendOptions()
        less.indirectSegments = 0
        let small = try BlockPair(backendOptions: less, host: host(maptrack: 100))
        let frontend = try small.connect()
        var queue = try frontend.takeQueue(0)
        #expect(try queue.perform(.read, byteCount: 4096) == .okay)
        #expect(small.backend.log.contains { $0.contains("keeps 88 grants mapped a queue, not 4352: the limit is 100") })
        // Larger than what the queue may keep, and all of it comes.
        for place in 0..<16 {
            #expect(try queue.perform(.read, sector: UInt64(place) * 128, bufferOffset: place << 16, byteCount: 1 << 16) == .okay)
        }
        #expect(small.host.usage.mappings <= 100)
        for place in 0..<16 { #expect(queue.buffer.load(place << 16, as: UInt64.self) == UInt64(place) * 128) }
        frontend.close()
        small.backend.stop()
    }

    @Test func aRequestWithoutRoomFailsAloneAndSaysSoOnce() throws {
        let pair = try BlockPair()
        let raw = try MockBlockFrontend(pair)
        pair.host.failEveryMap(with: .noDeviceSpace)
        for id in 0..<5 {
            let status = try raw.ask(raw.request(.read, sector: 0, id: UInt64(id)))
            #expect(status == .error)
        }
        #expect(try eventually(5000) { try error(pair).hasPrefix("28 requests fail: the limit of mapped grants is") })
        #expect(pair.backend.log.count { $0.contains("requests fail") } == 1)
        pair.host.failEveryMap(with: nil)
        let status = try raw.ask(raw.request(.read, sector: 0))
        #expect(status == .okay)
        #expect(try raw.store.state(of: raw.backendPath) == .connected)
        try raw.close()
        pair.backend.stop()
    }

    @Test(arguments: [true, false]) func requestsThatDoNotFitTogetherWaitForEachOther(_ persistent: Bool) throws {
        var options = BlockBackendOptions()
        options.persistentGrants = persistent
        let pair = try BlockPair(byteCount: 8 << 20, backendOptions: options, host: host(maptrack: 300))
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        // 32 pages each and a page of descriptors: nine of them fit.
        let written = pattern(4 << 20, seed: 3)
        queue.buffer.write(written, at: 0)
        for command in [BlockCommand.write, .read] {
            if command == .read { queue.buffer.fill(0, count: 4 << 20) }
            for place in 0..<32 {
                #expect(
                    try queue.submit(
                        command, sector: UInt64(place) * 256, bufferOffset: place << 17, byteCount: 1 << 17, tag: UInt64(place)))
            }
            queue.kick()
            let ended = try queue.waitForAll()
            #expect(ended.count == 32 && ended.allSatisfy { $0.outcome == .okay }, "\(command)")
        }
        #expect(queue.buffer.bytes(at: 0, count: 4 << 20) == written)
        #expect(!pair.backend.log.contains { $0.contains("requests fail") })
        frontend.close()
        pair.backend.stop()
    }

    @Test(arguments: [GrantStatus.noDeviceSpace, .generalError]) func whatIsOnlyKeptMakesRoom(_ status: GrantStatus) throws {
        let pair = try BlockPair()
        let baseline = pair.host.usage
        let raw = try MockBlockFrontend(pair, persistent: true)
        for page in 0..<40 { #expect(try raw.ask(raw.request(.read, sector: UInt64(page) * 8, page: page)) == .okay) }
        #expect(pair.host.usage.mappings - baseline.mappings == 41)
        pair.host.failMap(number: 1, with: status)
        raw.data.region.fill(50 * 4096, count: 4096)
        let answer = try raw.ask(raw.request(.read, sector: 16, page: 50))
        #expect(answer == .okay)
        #expect(raw.data.region.load(50 * 4096, as: UInt64.self) == 16)
        // The ring, and the page of the last request.
        #expect(pair.host.usage.mappings - baseline.mappings == 2)
        try raw.close()
        pair.backend.stop()
        expectBaseline(pair.host, baseline)
    }
}
