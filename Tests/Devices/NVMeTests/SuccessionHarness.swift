// A frontend whose driver's process is killed again and again: it knows what it has asked and what was answered, as a
// ring's journal does, and has each next process asked what is left.

import BlockDevices
import DMA
import LinuxSystem
@testable import NVMe
import NVMeModel
import Reactor
import SharedMemory
import Synchronization
import TestSupport

/// One disk through as many processes as it takes.
final class SuccessionHarness: @unchecked Sendable {
    /// What was asked.
    struct Request: Sendable {
        let operation: DeviceOperation
        /// Bytes of the region: offset and count.
        let pieces: [(offset: Int, count: Int)]
    }

    let model: ModelController
    let region: SharedRegion
    private(set) var life: ModelLife
    private(set) var harness: NVMeHarness
    private(set) var requests: [Request] = []
    private(set) var tags: [UInt32?] = []
    private(set) var results: [DeviceResult?] = []
    private var isAbandoned = false
    /// What every process has said.
    private(set) var lines: [String] = []
    /// How many requests were asked again.
    private(set) var repeats = 0

    init(_ settings: ModelSettings, pages: Int = 700, killAt step: Int = .max) throws {
        var settings = settings
        settings.mayRepeatDoorbells = true
        model = ModelController(settings)
        region = try SharedRegion(anonymous: pages * 4096)
        life = try ModelLife(model)
        harness = try NVMeHarness(model, port: life, region: region)
        life.kill(at: step == .max ? .max : life.steps + step)
    }

    /// Asks; may be killed meanwhile.
    func ask(_ operation: DeviceOperation, _ pieces: [(offset: Int, count: Int)] = []) {
        requests.append(Request(operation: operation, pieces: pieces))
        tags.append(nil)
        results.append(nil)
        begin(requests.count - 1)
    }

    private func begin(_ index: Int) {
        if life.isDead { return }
        let segments = requests[index].pieces.map { harness.segment($0.offset, $0.count) }
        tags[index] = harness.begin(requests[index].operation, segments)
    }

    /// Takes the answers that were given before the process died.
    func collect() {
        if isAbandoned { return }
        for index in requests.indices where results[index] == nil {
            guard let tag = tags[index], let result = harness.answered(tag) else { continue }
            results[index] = result
            tags[index] = nil
        }
    }

    /// Whether every request has been answered, by whichever process.
    var isDone: Bool { results.allSatisfy { $0 != nil } }

    /// Whether every request is answered in the end, by the process that lives.
    /// - Parameter between: is done before each look, such as what holds commands finishes them.
    func finishes(_ milliseconds: Int64 = 3000, between: () -> Void = {}) -> Bool {
        eventually(milliseconds) {
            collect()
            between()
            return isDone
        }
    }

    /// The killed process's successor is asked what is left.
    /// - Parameters:
    ///   - time: what it waits by for what is under way.
    ///   - before: changes what was left.
    func succeed(time: any TimeSource = .system, killAt step: Int = .max, before: (ModelLife) -> Void = { _ in }) throws {
        precondition(life.isDead)
        collect()
        if !isAbandoned {
            lines += harness.lines.all
            harness.abandon()
        }
        isAbandoned = true
        for index in requests.indices { tags[index] = nil }
        let next = ModelLife(after: life)
        before(next)
        next.kill(at: step)
        life = next
        do { harness = try NVMeHarness(model, port: next, time: time, region: region) } catch {
            // Killed before it served.
            guard next.isDead else { throw error }
            return
        }
        isAbandoned = false
        let left = requests.indices.filter { results[$0] == nil }
        repeats += left.count
        harness.expectRepeats(left.count)
        for index in left { begin(index) }
    }

    func close() { if !isAbandoned { harness.close() } }
}

/// A clock by which a waiting driver's controller goes on: each sleep finishes what is held.
final class WorkingClock: TimeSource {
    private let model: ModelController
    private let now = Mutex(UInt64(3_600_000_000_000))

    init(_ model: ModelController) { self.model = model }

    var nanoseconds: UInt64 { now.withLock { $0 } }
    var calendarNanoseconds: UInt64 { nanoseconds }
    func sleep(nanoseconds: UInt64) {
        now.withLock { $0 += nanoseconds }
        model.finish(reversed: true)
    }
    func kernelDeadline(milliseconds: Int) -> UInt64 { SystemTime().kernelDeadline(milliseconds: milliseconds) }
}
