// A process that drives a controller is killed, at each of its stores, and another goes on: without a reset, with every
// request answered once, and none of the bytes another than they would have been.

import BlockDevices
import DMA
import LinuxSystem
@testable import NVMe
import NVMeModel
import Testing
import TestSupport

@Suite struct NVMeAdoptionTests {
    static func fill(_ harness: SuccessionHarness, _ offset: Int, _ count: Int, _ seed: UInt8) {
        harness.region.write((0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) ^ seed }, at: offset)
    }

    /// What a command's life is made of, one store after another: killed after each of them in turn.
    @Test(arguments: [false, true]) func everyStep(isHeld: Bool) throws {
        var settings = ModelSettings()
        settings.namespaces = [1: (9, 2048, 0)]
        settings.transferShift = 4
        var (step, deaths) = (1, 0)
        while step < 400 {
            let harness = try SuccessionHarness(settings, pages: 64, killAt: step)
            if isHeld { harness.model.whenCommand { $0.isIO ? .hold : .perform } }
            Self.fill(harness, 0, 3 << 12, 0x11)
            Self.fill(harness, 1 << 16, 80 << 10, 0x22)
            harness.ask(.write(offset: 4096), [(0, 4096), (8192, 4096)])
            // Two commands, with lists.
            harness.ask(.write(offset: 1 << 17), [(1 << 16, 80 << 10)])
            harness.ask(.read(offset: 4096), [(200 << 10, 512)])
            harness.ask(.writeZeroes(offset: 3 << 18, byteCount: 8192, mayUnmap: true))
            harness.ask(.discard(offset: 3 << 18 + 8192, byteCount: 8192, secure: false))
            harness.ask(.flush)
            let isOver = eventually(20_000) {
                harness.collect()
                if isHeld, !harness.life.isDead { harness.model.finish() }
                return harness.isDone || harness.life.isDead
            }
            #expect(isOver, "step \(step)")
            let wasKilled = harness.life.isDead
            if wasKilled {
                deaths += 1
                try harness.succeed(time: WorkingClock(harness.model))
                #expect(harness.finishes(20_000) { harness.model.finish() }, "step \(step)")
            }
            #expect(harness.results.allSatisfy { $0 == .done }, "step \(step)")
            // No reset, and nothing that the specification forbids.
            #expect(harness.model.starts == 1, "step \(step): \(harness.harness.lines.all)")
            #expect(harness.model.violations == [], "step \(step)")
            let contents = harness.model.contents(1)
            expectSame(contents[4096..<8192], harness.region.bytes(at: 0, count: 4096)[...], "step \(step)")
            expectSame(contents[8192..<12288], harness.region.bytes(at: 8192, count: 4096)[...], "step \(step)")
            expectSame(contents[1 << 17..<(1 << 17) + 80 << 10], harness.region.bytes(at: 1 << 16, count: 80 << 10)[...])
            harness.close()
            if !wasKilled { break }
            step += 1
        }
        // It did come to an end, and there were steps.
        #expect(step < 400)
        #expect(deaths > 30)
    }

    /// What was done is not done again, and what was never given is.
    @Test func doneOnce() throws {
        let harness = try SuccessionHarness(ModelSettings())
        harness.model.whenCommand { $0.isIO ? .hold : .perform }
        Self.fill(harness, 0, 65536, 7)
        for index in 0..<8 { harness.ask(.write(offset: UInt64(index) * 8192), [(index * 8192, 8192)]) }
        #expect(eventually { harness.model.held.count == 8 })
        harness.life.kill()
        // They end while the successor waits for them.
        harness.model.whenCommand { _ in .perform }
        try harness.succeed(time: WorkingClock(harness.model))
        #expect(harness.finishes())
        #expect(harness.repeats == 8)
        #expect(harness.model.commands.count == 8)
        #expect(harness.harness.statistics.submitted == 8)
        #expect(harness.model.starts == 1)
        expectSame(harness.model.contents(1)[0..<65536], harness.region.bytes(at: 0, count: 65536)[...])
        // The same asked anew is another request.
        harness.ask(.write(offset: 0), [(0, 8192)])
        #expect(harness.finishes())
        #expect(harness.model.commands.count == 9)
        #expect(harness.model.violations == [])
        harness.close()
    }

    /// What the controller has failed has failed, unless another time may help.
    @Test func failures() throws {
        let harness = try SuccessionHarness(ModelSettings())
        harness.model.whenCommand { $0.isIO ? .fail($0.block == 0 ? 0x4280 : 0x281) : .perform }
        harness.life.kill(at: harness.life.steps + 12)
        harness.ask(.write(offset: 0), [(0, 4096)])
        harness.ask(.read(offset: 8192), [(8192, 4096)])
        #expect(eventually { harness.life.isDead || harness.isDone })
        harness.life.kill()
        harness.model.whenCommand { _ in .perform }
        try harness.succeed()
        #expect(harness.finishes())
        #expect(harness.results[1] == .done)
        harness.close()
    }

    /// Both phases, and a queue that has gone round: killed with commands in flight after so many others.
    @Test(arguments: [0, 1, 200, 255, 256, 257, 511, 512, 700]) func phases(_ before: Int) throws {
        let harness = try SuccessionHarness(ModelSettings())
        for _ in 0..<before { #expect(try harness.harness.perform(.write(offset: 0), [harness.harness.segment(0, 512)]) == .done) }
        harness.model.whenCommand { $0.isIO ? .hold : .perform }
        for index in 0..<20 { harness.ask(.write(offset: UInt64(index) * 512), [(index * 512, 512)]) }
        #expect(eventually { harness.model.held.count == 20 })
        harness.life.kill()
        harness.model.finish(reversed: true)
        harness.model.whenCommand { _ in .perform }
        try harness.succeed()
        #expect(harness.finishes())
        #expect(harness.model.commands.count == before + 20)
        #expect(harness.model.starts == 1, "\(harness.harness.lines.all)")
        #expect(harness.model.violations == [])
        harness.close()
    }

    /// A full queue of two entries, and one vector.
    @Test func small() throws {
        var settings = ModelSettings()
        settings.queueEntries = 2
        settings.vectors = 1
        let harness = try SuccessionHarness(settings)
        harness.model.whenCommand { $0.isIO ? .hold : .perform }
        for index in 0..<5 { harness.ask(.write(offset: UInt64(index) * 512), [(index * 512, 512)]) }
        #expect(eventually { harness.model.held.count == 1 })
        harness.life.kill()
        harness.model.whenCommand { _ in .perform }
        try harness.succeed(time: WorkingClock(harness.model))
        #expect(harness.finishes())
        #expect(harness.model.commands.count == 5)
        #expect(harness.model.starts == 1)
        #expect(harness.model.violations == [])
        harness.close()
    }

    /// A planned end: nothing is under way, and the controller runs on.
    @Test func leaving() throws {
        let model = ModelController(ModelSettings())
        let first = try ModelLife(model)
        do {
            let harness = try NVMeHarness(model, port: first)
            #expect(try harness.perform(.write(offset: 0), [harness.segment(0, 4096)]) == .done)
            first.leave()
            harness.close()
        }
        #expect(model.isEnabled && !model.isCutOff && !model.wasShutDown)
        let second = ModelLife(after: first)
        do {
            let harness = try NVMeHarness(model, port: second)
            #expect(try harness.perform(.write(offset: 0), [harness.segment(0, 4096)]) == .done)
            #expect(model.starts == 1)
            #expect(model.violations == [])
            harness.close()
        }
        // In good order: nothing is kept.
        #expect(model.wasShutDown)
        #expect(second.keptNames == [])
    }
}

/// What a predecessor left is not believed where it does not fit: then there is one reset, one line, and all the same
/// every request is answered once.
@Suite struct NVMeUnadoptableTests {
    /// What is wrong, and what is said of it.
    static let wrongs: [(String, String)] = [
        ("version", "its record is of version 99, and this program's is 1"), ("checksum", "its record has a wrong checksum"),
        ("resetting", "it was being started or reset"),
        ("admin", "its admin queue is not where the record has it"), ("memory", "the memory of its queue 1 is not there"),
        ("head", "its completion queue 1 is not where the record has it"), ("tail", "its queue 1 has 4098 commands under way"),
        ("stopped", "it does not run as it was left (CC 0x460000"), ("command", "1 commands of its queue 1 have no completion"),
        ("silent", "3 commands of its queue 1 have not ended in 30000 ms"),
        ("failed", "it does not run as it was left (CC 0x460001, CSTS 0x3)"),
    ]

    @Test(arguments: wrongs.map(\.0)) func reset(_ wrong: String) throws {
        let harness = try SuccessionHarness(ModelSettings())
        harness.model.whenCommand { $0.isIO ? .hold : .perform }
        NVMeAdoptionTests.fill(harness, 0, 65536, 7)
        for index in 0..<3 { harness.ask(.write(offset: UInt64(index) * 4096), [(index * 4096, 4096)]) }
        #expect(eventually { harness.model.held.count == 3 })
        harness.life.kill()
        if wrong != "silent" { harness.model.finish() }
        harness.model.whenCommand { _ in .perform }
        let clock = ManualClock()
        try harness.succeed(time: clock, before: { life in Self.spoil(wrong, life, harness) })
        #expect(harness.finishes())
        #expect(harness.results.allSatisfy { $0 == .done })
        #expect(harness.model.starts == 2)
        let expected = Self.wrongs.first { $0.0 == wrong }?.1 ?? ""
        let lines = harness.harness.lines.all
        #expect(lines.count == 1 && lines[0].contains("model: \(expected)"), "\(lines)")
        expectSame(harness.model.contents(1)[0..<12288], harness.region.bytes(at: 0, count: 12288)[...])
        harness.close()
    }

    private static func spoil(_ wrong: String, _ life: ModelLife, _ harness: SuccessionHarness) {
        let queue = ControllerLedger(life).queue(1)
        switch wrong {
        case "version": life.ledger.storeRelaxed(99, at: 12)
        case "checksum": life.ledger.storeRelaxed(7, at: 32)
        case "resetting": life.ledger.storeRelaxed(0, at: 0)
        case "admin": life.forget("admin")
        case "memory": life.forget("queue 1 1")
        case "head":
            // As far as commands are counted all is well.
            queue.took(head: queue.head &+ 512 &- 1)
            queue.willTell(tail: queue.tail &+ 512 &- 1)
        case "tail": queue.willTell(tail: queue.tail &+ 4095)
        case "stopped": harness.model.store(0x46_0000, at: 0x14)
        case "command":
            var command = NVMeCommand.flush(namespace: 1)
            command.identifier = 40
            queue.note(command, slot: 40, at: queue.tail &- 1)
        case "failed": harness.model.fail()
        default: break
        }
    }
}

/// Killed at random steps, several times, with commands that end in any order and at any time.
@Suite struct NVMeSuccessionProperties {
    @Test(arguments: 0..<24) func anyStep(seed: UInt64) throws {
        var random = SplitMix(seed &+ 99)
        var settings = ModelSettings()
        settings.namespaces = [1: (9, 2048, 0)]
        settings.transferShift = [3, 7, 0][Int(seed % 3)]
        settings.queueEntries = [2048, 8, 64][Int(seed % 5) % 3]
        let harness = try SuccessionHarness(settings, pages: 520, killAt: Int.random(in: 1...300, using: &random))
        harness.model.whenCommand { $0.isIO && $0.identifier % 3 != 0 ? .hold : .perform }
        NVMeAdoptionTests.fill(harness, 0, 490 << 12, UInt8(truncatingIfNeeded: seed))
        var (asked, deaths) = (0, 0)
        let limit = SystemTime().milliseconds + 30_000
        // Each request has blocks and pages of its own: what is there in the end is told.
        while asked < 60 || !harness.isDone, SystemTime().milliseconds < limit {
            if asked < 60, Bool.random(using: &random) {
                let (block, page) = (asked * 16, asked * 8)
                switch Int.random(in: 0..<8, using: &random) {
                case 0: harness.ask(.read(offset: UInt64(block) * 512), [(490 * 4096 + asked * 512, 512)])
                case 1: harness.ask(.flush)
                default:
                    harness.ask(.write(offset: UInt64(block) * 512), [(page * 4096, 4096), ((page + 2) * 4096, 4096)])
                }
                asked += 1
            }
            if Bool.random(using: &random) { harness.model.finish(reversed: Bool.random(using: &random)) }
            harness.collect()
            if harness.life.isDead {
                deaths += 1
                let next = deaths < 5 ? Int.random(in: 1...200, using: &random) : Int.max
                try harness.succeed(time: WorkingClock(harness.model), killAt: next)
            }
        }
        #expect(harness.isDone && asked == 60)
        #expect(harness.results.allSatisfy { $0 == .done })
        #expect(harness.model.starts == 1, "\(harness.lines)")
        #expect(harness.model.violations == [])
        let contents = harness.model.contents(1)
        for (index, request) in harness.requests.enumerated() {
            guard case .write(let offset, _) = request.operation else { continue }
            let expected = request.pieces.flatMap { harness.region.bytes(at: $0.offset, count: $0.count) }
            expectSame(contents[Int(offset)..<Int(offset) + expected.count], expected[...], "request \(index)")
        }
        harness.close()
    }
}

/// Whatever is in what a predecessor left, the successor serves, after a reset if need be.
@Suite struct NVMeSpoiledLedgerTests {
    @Test(arguments: 0..<60) func anyBytes(seed: UInt64) throws {
        var random = SplitMix(seed &+ 7)
        let harness = try SuccessionHarness(ModelSettings())
        harness.model.whenCommand { $0.isIO ? .hold : .perform }
        for index in 0..<6 { harness.ask(.write(offset: UInt64(index) * 65536), [(index * 65536, 65536)]) }
        harness.ask(.discard(offset: 1 << 20, byteCount: 4096, secure: false))
        #expect(eventually { harness.model.held.count == 7 })
        harness.life.kill()
        harness.model.finish()
        harness.model.whenCommand { _ in .perform }
        try harness.succeed(time: ManualClock()) { life in
            // The set-up, the first pair's ledger, or anything at all.
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let queue =
                    ControllerLedger.byteCount - (NVMeController.mostQueues + 1) * QueueLedger.byteCount + QueueLedger.byteCount
                let place =
                    switch Int.random(in: 0..<3, using: &random) {
                    case 0: Int.random(in: 0..<11, using: &random) * 4
                    case 1: queue + Int.random(in: 0..<160, using: &random) * 4
                    default: Int.random(in: 0..<ControllerLedger.byteCount / 4, using: &random) * 4
                    }
                let word =
                    Bool.random(using: &random)
                    ? UInt32.random(in: 0...16, using: &random) : .random(in: 0 ... .max, using: &random)
                life.ledger.storeRelaxed(word, at: place)
            }
        }
        #expect(harness.finishes(10_000))
        harness.close()
    }
}
