// Every feature that negotiation can switch, on and off, on either side, in each ABI: the same bytes arrive, and the
// store says what was agreed.

import BlockBackend
import BlockFrontend
import Foundation
import LinuxSystem
import SharedMemory
import TestHosts
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(2)))
struct FeatureTests {
    /// One way to connect.
    struct Variant: CustomTestStringConvertible, Sendable {
        var name: String
        var backend = BlockBackendOptions()
        var frontend = BlockFrontendOptions()
        var expectedSegments: Int
        var testDescription: String { name }

        init(
            _ name: String, segments: Int = 256,
            _ change: (inout BlockBackendOptions, inout BlockFrontendOptions) -> Void = { _, _ in }
        ) {
            self.name = name
            expectedSegments = segments
            change(&backend, &frontend)
        }
    }

    static let variants: [Variant] = [
        Variant("all defaults"),
        Variant("frontend x86_32") { $1.abi = .x86_32 },
        Variant("frontend x86_64") { $1.abi = .x86_64 },
        Variant("x86_32 without a protocol node") {
            $1.abi = .x86_32; $1.namesABI = false
        },
        Variant("native without a protocol node, backend told so") {
            $0.abiWhenMissing = .native; $1.namesABI = false
        },
        Variant("backend without persistent grants") { b, _ in b.persistentGrants = false },
        Variant("frontend without persistent grants") { _, f in f.persistentGrants = false },
        Variant("persistent grants, cache of 3") { b, _ in b.persistentGrantLimit = 3 },
        Variant("backend without indirect requests", segments: 11) { b, _ in b.indirectSegments = 0 },
        Variant("frontend without indirect requests", segments: 11) { _, f in f.segments = 11 },
        Variant("indirect, 32 segments", segments: 32) { b, _ in b.indirectSegments = 32 },
        Variant("indirect, 1024 segments on two descriptor pages", segments: 1024) { b, f in
            b.indirectSegments = 4096
            f.segments = 1024
        },
        Variant("order 0") { b, f in
            b.ringPageOrder = 0; f.ringPageOrder = 5
        },
        Variant("order 1") { _, f in f.ringPageOrder = 1 },
        Variant("order 3, x86_32") { _, f in
            f.ringPageOrder = 3; f.abi = .x86_32
        },
        Variant("order 5") { _, f in f.ringPageOrder = 5 },
        Variant("three queues") { _, f in f.queues = 3 },
        Variant("three queues of order 2 without persistent grants") { _, f in
            f.queues = 3
            f.ringPageOrder = 2
            f.persistentGrants = false
        },
        Variant("one queue offered, four wanted") { b, f in
            b.queues = 1; f.queues = 4
        },
        Variant("several reactors") { b, f in
            b.reactors = 2; f.queues = 2
        },
        Variant("backend polls") { b, _ in b.polling = .always },
        Variant("backend spins a while") { b, _ in b.polling = .adaptive(microseconds: 200) },
    ]

    @Test(arguments: variants) func sameBytesArrive(_ variant: Variant) throws {
        let pair = try BlockPair(byteCount: 4 << 20, backendOptions: variant.backend)
        let baseline = pair.host.usage
        let frontend = try pair.connect(variant.frontend)
        #expect(frontend.queueCount == max(1, min(variant.frontend.queues, Int(variant.backend.queues))))
        var model = [UInt8](try Data(contentsOf: URL(fileURLWithPath: pair.image)))
        var random = SystemRandomNumberGenerator()
        for index in 0..<frontend.queueCount {
            var queue = try frontend.takeQueue(index)
            for round in 0..<16 {
                // One large transfer of each kind, so that every limit is passed; the rest small.
                let sectors = round < 2 ? 2048 : Int.random(in: 1...300, using: &random)
                let sector = Int.random(in: 0...(8192 - sectors), using: &random)
                let offset = Int.random(in: 0..<64, using: &random) * 512
                if round % 2 == 0 {
                    let bytes = pattern(sectors * 512, seed: round &+ index * 16)
                    queue.buffer.write(bytes, at: offset)
                    #expect(
                        try queue.perform(.write, sector: UInt64(sector), bufferOffset: offset, byteCount: sectors * 512) == .okay)
                    model.replaceSubrange(sector * 512..<(sector + sectors) * 512, with: bytes)
                } else {
                    #expect(
                        try queue.perform(.read, sector: UInt64(sector), bufferOffset: offset, byteCount: sectors * 512) == .okay)
                    #expect(
                        queue.buffer.bytes(at: offset, count: sectors * 512)
                            == Array(model[sector * 512..<(sector + sectors) * 512]))
                }
            }
            #expect(try queue.perform(.flush) == .okay)
        }
        expectSame(try Data(contentsOf: URL(fileURLWithPath: pair.image)), model)
        let persistent = variant.backend.persistentGrants && variant.frontend.persistentGrants
        #expect(try pair.node("feature-persistent") == (persistent ? "1" : "0"))
        frontend.close()
        pair.backend.stop()
        expectBaseline(pair.host, baseline)
    }

    @Test func announcedKeysAreTheProtocols() throws {
        let pair = try BlockPair()
        var options = BlockFrontendOptions()
        options.queues = 2
        options.ringPageOrder = 1
        let frontend = try pair.connect(options)
        let client = pair.toolstack.store
        let back = Dictionary(
            uniqueKeysWithValues: try client.directory(pair.paths.backendPath).map {
                ($0, try client.read(pair.paths.backendPath + "/" + $0))
            })
        #expect(back["state"] == "4" && back["sectors"] == "8192" && back["sector-size"] == "512" && back["info"] == "0")
        #expect(back["physical-sector-size"] != nil && back["feature-flush-cache"] == "1")
        #expect(
            back["feature-max-indirect-segments"] == "256" && back["max-ring-page-order"] == "5"
                && back["multi-queue-max-queues"] == "4")
        // A barrier orders the whole disk: not with two queues.
        #expect(back["feature-barrier"] == "0")
        let front = pair.paths.frontendPath
        #expect(try client.read(front + "/state") == "4")
        #expect(try client.read(front + "/protocol") == "x86_64-abi")
        #expect(try client.read(front + "/multi-queue-num-queues") == "2")
        #expect(try client.read(front + "/ring-page-order") == "1")
        #expect(try client.exists(front + "/queue-1/ring-ref1") && client.exists(front + "/queue-0/event-channel"))
        #expect(try !client.exists(front + "/ring-ref") && !client.exists(front + "/event-channel"))
        frontend.close()
        pair.backend.stop()
    }

    @Test(arguments: [true, false]) func flushOfferedOrNot(_ offered: Bool) throws {
        var options = BlockBackendOptions()
        options.flush = offered
        let pair = try BlockPair(backendOptions: options)
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        #expect(try pair.node("feature-flush-cache") == (offered ? "1" : "0"))
        #expect(try pair.node("feature-barrier") == (offered ? "1" : "0"))
        #expect(queue.properties.flush == offered)
        #expect(try queue.perform(.flush) == .okay)
        #expect(queue.statistics.requests == (offered ? 1 : 0))
        frontend.close()
        pair.backend.stop()
    }

    @Test(arguments: [true, false]) func discardOfferedOrNot(_ offered: Bool) throws {
        let pair = try BlockPair(spec: offered ? ",raw,xvda,w" : ",raw,xvda,w,no-discard")
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        #expect(try pair.node("feature-discard") == (offered ? "1" : "0"))
        #expect(try queue.perform(.discard, sector: 2048, byteCount: 1 << 20) == (offered ? .okay : .unsupported))
        #expect(try queue.perform(.read, sector: 2048, byteCount: 512) == .okay)
        #expect(queue.buffer.load(0, as: UInt64.self) == (offered ? 0 : 2048))
        frontend.close()
        pair.backend.stop()
    }

    @Test func readOnlyDiskRefusesWrites() throws {
        let pair = try BlockPair(spec: ",raw,xvda,r")
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        #expect(queue.properties.info == .readOnly)
        queue.buffer.fill(0, count: 512, with: 0xFF)
        #expect(try queue.perform(.write, sector: 0, byteCount: 512) == .failed)
        #expect(try queue.perform(.read, sector: 5, byteCount: 512) == .okay)
        #expect(queue.buffer.load(0, as: UInt64.self) == 5)
        frontend.close()
        pair.backend.stop()
    }

    @Test func resizeIsSeenWithoutAStateChange() throws {
        var options = BlockBackendOptions()
        options.resizePollMilliseconds = 20
        let pair = try BlockPair(backendOptions: options)
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        #expect(truncate(pair.image, 8 << 20) == 0)
        let deadline = monotonicMilliseconds() + 5000
        while frontend.properties?.sectors != 16384, monotonicMilliseconds() < deadline { sleepMilliseconds(10) }
        #expect(frontend.properties?.sectors == 16384)
        _ = queue.reap { _ in }
        #expect(try queue.perform(.read, sector: 16376, byteCount: 4096) == .okay)
        #expect(frontend.connectionCount == 1)
        frontend.close()
        pair.backend.stop()
    }

    @Test("a part of a sector that comes to be at the end is told once, also where there is no whole one more")
    func partOfASector() throws {
        var options = BlockBackendOptions()
        options.resizePollMilliseconds = 20
        let pair = try BlockPair(backendOptions: options)
        let frontend = try pair.connect()
        #expect(truncate(pair.image, 4 << 20 | 300) == 0)
        let line = "vbd 1/51712: \(pair.image): 300 bytes at its end are less than a sector, and out of reach"
        #expect(eventually(5000) { pair.backend.log.contains(line) }, "\(pair.backend.log)")
        #expect(frontend.properties?.sectors == 8192)
        #expect(truncate(pair.image, 4 << 20) == 0)
        sleepMilliseconds(100)
        #expect(pair.backend.log.count { $0 == line } == 1)
        frontend.close()
        pair.backend.stop()
    }
}
