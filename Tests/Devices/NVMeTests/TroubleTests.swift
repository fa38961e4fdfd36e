// Controllers that fail, lie, are slow or go: each costs its own disk, and no request is told a success that it was
// not.

import BlockDevices
import DMA
import LinuxSystem
@testable import NVMe
import NVMeModel
import Reactor
import Synchronization
import Testing
import TestSupport

@Suite struct NVMeTroubleTests {
    /// Asked again where that may help, five times at most; never where the controller says that it does not.
    @Test func retries() throws {
        let harness = try NVMeHarness()
        let fails = Mutex(2)
        harness.model.whenCommand { command in
            guard command.isIO,
                fails.withLock({
                    $0 -= 1; return $0 >= 0
                })
            else { return .perform }
            return .fail(0x281)
        }
        #expect(try harness.perform(.read(offset: 0), [harness.segment(0, 4096)]) == .done)
        #expect(harness.model.commands.count == 3)
        harness.model.whenCommand { $0.isIO ? .fail(0x281) : .perform }
        #expect(try harness.perform(.read(offset: 0), [harness.segment(0, 4096)]) == .failed(.ioError))
        #expect(harness.model.commands.count == 9)
        harness.model.whenCommand { $0.isIO ? .fail(0x4281) : .perform }
        #expect(try harness.perform(.flush) == .failed(.ioError))
        #expect(harness.model.commands.count == 10)
        harness.model.whenCommand { _ in .perform }
        #expect(try harness.perform(.flush) == .done)
        #expect(harness.model.violations == [])
        harness.close()
    }

    /// One part's error is the whole transfer's, after all that was begun has ended.
    @Test func partFails() throws {
        var settings = ModelSettings()
        settings.transferShift = 1
        let harness = try NVMeHarness(settings)
        harness.model.whenCommand { $0.isIO && $0.block == 16 ? .fail(0x4280) : .perform }
        #expect(try harness.perform(.write(offset: 0), [harness.segment(0, 1 << 20)]) == .failed(.ioError))
        #expect(harness.inFlight == 0)
        harness.model.whenCommand { _ in .perform }
        #expect(try harness.perform(.write(offset: 0), [harness.segment(0, 1 << 20)]) == .done)
        harness.close()
    }

    enum Lie: CaseIterable, Sendable { case outOfRange, idle, twice, phases }

    /// A completion of no command: the controller is stopped and kept from memory, and its disk's requests fail.
    @Test(arguments: Lie.allCases) func PM23_liesCostTheControllersOwnDisk(_ lie: Lie) throws {
        let harness = try NVMeHarness()
        harness.model.whenCommand { $0.isIO ? .hold : .perform }
        let tag = harness.begin(.read(offset: 0), [harness.segment(0, 4096)])
        #expect(eventually { harness.model.held.count == 1 })
        let identifier = harness.model.held[0].identifier
        switch lie {
        case .outOfRange: harness.model.lie(identifier: 0xFFFF)
        case .idle: harness.model.lie(identifier: identifier ^ 1)
        case .twice:
            harness.model.lie(identifier: identifier)
            harness.model.lie(identifier: identifier)
        case .phases: harness.model.scribble()
        }
        let result = try harness.wait(tag)
        // Where it was told to be done first, it was; never by what came after.
        #expect(result == (lie == .twice ? .done : .failed(.ioError)))
        #expect(eventually { harness.model.isCutOff })
        #expect(try harness.perform(.read(offset: 0), [harness.segment(0, 4096)]) == .failed(.ioError))
        #expect(!harness.model.isEnabled)
        #expect(harness.lines.all.count == 1)
        harness.close()
        #expect(harness.model.memoryModel.count == 1)
    }

    /// An interrupt that never came: found within a second.
    @Test func lostInterrupt() throws {
        let harness = try NVMeHarness()
        harness.model.whenCommand { $0.isIO ? .hold : .perform }
        let tag = harness.begin(.read(offset: 0), [harness.segment(0, 4096)])
        #expect(eventually { harness.model.held.count == 1 })
        // Asleep: nobody looks at the queue by himself.
        sleepMilliseconds(50)
        harness.model.finish(quietly: true)
        #expect(try harness.wait(tag) == .done)
        #expect(harness.model.starts == 1)
        harness.close()
    }

    /// A command that is not answered: given up, then the controller reset, and all that was in flight asked again.
    @Test func PM24_noAnswerIsAReset() throws {
        let harness = try NVMeHarness(limits: NVMeLimits(commandSeconds: 1, abortSeconds: 1))
        harness.region.fill(0, count: 8192, with: 9)
        harness.model.whenCommand { $0.isIO ? .hold : .perform }
        let tags = (0..<100).map { harness.begin(.write(offset: UInt64($0) * 4096), [harness.segment(0, 4096)]) }
        #expect(eventually { harness.model.held.count == 63 })
        #expect(eventually(10_000) { harness.model.adminCommands.contains { $0.opcode == 8 } })
        harness.model.whenCommand { _ in .perform }
        for tag in tags { #expect(try harness.wait(tag) == .done) }
        #expect(harness.model.starts == 2)
        #expect(harness.model.contents(1)[..<(100 * 4096)].allSatisfy { $0 == 9 })
        #expect(harness.model.violations == [])
        // A second one that never answers ends after three resets that did not help.
        harness.model.whenCommand { $0.isIO ? .hold : .perform }
        #expect(try harness.perform(.read(offset: 0), [harness.segment(0, 4096)]) == .failed(.ioError))
        #expect(harness.model.starts == 5)
        #expect(harness.lines.all.last?.contains("3 resets have not helped") == true)
        harness.close()
        #expect(harness.model.memoryModel.count == 1)
    }

    /// CSTS.CFS: reset. All ones: gone, and all that is in flight fails (attacks.md PM24).
    @Test func failsAndGoes() throws {
        let harness = try NVMeHarness()
        harness.model.whenCommand { $0.isIO ? .hold : .perform }
        let first = harness.begin(.read(offset: 0), [harness.segment(0, 4096)])
        #expect(eventually { harness.model.held.count == 1 })
        harness.model.whenCommand { _ in .perform }
        harness.model.fail()
        #expect(try harness.wait(first) == .done)
        #expect(harness.model.starts == 2)
        harness.model.whenCommand { $0.isIO ? .hold : .perform }
        let second = harness.begin(.read(offset: 0), [harness.segment(0, 4096)])
        #expect(eventually { harness.model.held.count == 1 })
        harness.model.vanish()
        #expect(try harness.wait(second) == .failed(.ioError))
        #expect(try harness.perform(.flush) == .failed(.ioError))
        harness.close()
        #expect(harness.model.memoryModel.count == 1)
    }

    /// One that was given up is tried again by itself, and serves when it can: a cable that was pulled.
    @Test func PM24_comesBack() throws {
        let harness = try NVMeHarness(limits: NVMeLimits(returnSeconds: 1))
        #expect(try harness.perform(.write(offset: 0), [harness.segment(0, 4096)]) == .done)
        harness.model.whenCommand { $0.isIO ? .hold : .perform }
        let tag = harness.begin(.read(offset: 0), [harness.segment(0, 4096)])
        #expect(eventually { harness.model.held.count == 1 })
        harness.model.vanish()
        #expect(try harness.wait(tag) == .failed(.ioError))
        #expect(throws: Errno.ioError) { try harness.disk.refreshGeometry() }
        harness.model.whenCommand { _ in .perform }
        harness.model.returnPower()
        // Nobody asks anything meanwhile.
        #expect(eventually(10_000) { !harness.disk.controller.isLost })
        #expect(try harness.perform(.read(offset: 0), [harness.segment(0, 4096)]) == .done)
        #expect(try harness.disk.refreshGeometry() == harness.disk.geometry)
        let lines = harness.lines.all
        #expect(lines.count == 2 && lines[1].contains("it is back after"), "\(lines)")
        #expect(harness.model.violations == [])
        harness.close()
        #expect(harness.model.memoryModel.count == 1)
    }

    /// It is tried a few times, further and further apart, and that is said once.
    @Test func PM24_isTriedAFewTimes() throws {
        let model = ModelController()
        let clock = ManualClock()
        let lines = LineCollector()
        let controller = try NVMeController(model, time: clock) { lines.add($0) }
        model.vanish()
        controller.giveUp("it went")
        var (tries, beats) = ([Int](), 0)
        for beat in 0..<200 {
            clock.advance(milliseconds: 1000)
            let before = controller.returning.withLock { $0.tries }
            controller.tryReturn(pause: 2)
            // Nothing is left on the worker.
            let done = Handoff<Bool>()
            controller.worker.run { _ in done.deliver(true) }
            _ = done.wait()
            if controller.returning.withLock({ $0.tries }) > before { tries.append(beat) }
            beats = beat
        }
        #expect(beats == 199 && tries == [2, 7, 16, 33, 66], "\(tries)")
        #expect(!controller.mayReturn && lines.all.count == 2, "\(lines.all)")
        // Whoever opens its disk anew has it tried once more.
        model.returnPower()
        #expect(controller.startAgain() && !controller.isLost)
    }

    /// One that lied is not tried again, and neither is another one in its place.
    @Test func PM23_isNotTrustedAgain() throws {
        let lying = try NVMeController(ModelController(), time: ManualClock()) { _ in }
        lying.giveUp("it lied", mayReturn: false)
        #expect(!lying.mayReturn && !lying.startAgain() && lying.isLost)
        let model = ModelController()
        let replaced = try NVMeController(model, time: ManualClock()) { _ in }
        model.vanish()
        replaced.giveUp("it went")
        model.returnPower()
        model.rename("OTHER")
        #expect(!replaced.startAgain() && replaced.isLost && model.isCutOff && !model.isEnabled)
    }

    /// A namespace that grows is as large as it is with the next look, for the queues, too.
    @Test func grows() throws {
        let harness = try NVMeHarness()
        let old = harness.disk.geometry.byteCount
        #expect(try harness.perform(.read(offset: old), [harness.segment(0, 4096)]) == .failed(.invalidArgument))
        harness.model.resize(1, blocks: 16384)
        #expect(try harness.disk.refreshGeometry().byteCount == 2 * old)
        #expect(try harness.perform(.read(offset: old), [harness.segment(0, 4096)]) == .done)
        harness.close()
    }

    /// What waits for room is given up; what the controller has, it does.
    @Test func cancel() throws {
        let harness = try NVMeHarness()
        harness.model.whenCommand { $0.isIO ? .hold : .perform }
        let tags = (0..<70).map { _ in harness.begin(.read(offset: 0), [harness.segment(0, 512)]) }
        #expect(eventually { harness.model.held.count == 63 })
        harness.reactor.run { harness.queue.cancelAll() }
        for tag in tags[63...] { #expect(try harness.wait(tag) == .failed(.canceled)) }
        harness.model.whenCommand { _ in .perform }
        harness.model.finish()
        for tag in tags[..<63] { #expect(try harness.wait(tag) == .done) }
        harness.close()
    }
}
