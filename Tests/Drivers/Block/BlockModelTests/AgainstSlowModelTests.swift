// The model against the slow one: thousands of random runs, in which each operation ends at once or later, well or
// badly.

import BlockDevices
import BlockModel
import LinuxSystem
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(1)))
struct AgainstSlowModelTests {
    @Test(arguments: 1...40 as ClosedRange<UInt64>)
    func everyRunIsTheSlowModels(_ seed: UInt64) {
        for round in 0..<6 as Range<UInt64> {
            var run = Run(seed: seed << 32 | round)
            run.check()
        }
    }

    /// One run of both.
    private struct Run {
        var random: SplitMix
        let capacity: Int
        let immediate: @Sendable (Int, Int) -> DeviceResult?

        init(seed: UInt64) {
            random = SplitMix(seed)
            capacity = Int.random(in: 1...6, using: &random)
            let luck = random.next()
            immediate = { id, stage in
                var choice = SplitMix(luck ^ UInt64(id) << 8 ^ UInt64(stage))
                return Int.random(in: 0..<3, using: &choice) == 0 ? Self.result(&choice) : nil
            }
        }

        static func result(_ random: inout SplitMix) -> DeviceResult {
            switch Int.random(in: 0..<12, using: &random) {
            case 0: .failed(.ioError)
            case 1: .failed(.notSupported)
            default: .done
            }
        }

        mutating func ask(_ id: Int) -> Asked {
            let offset = UInt64(id) << 12
            let operation: DeviceOperation =
                switch Int.random(in: 0..<7, using: &random) {
                case 0: .flush
                case 1: .discard(offset: offset, byteCount: Bool.random(using: &random) ? 512 : 0, secure: false)
                case 6: zeroes(offset)
                case 2, 3: .read(offset: offset)
                case 4: .write(offset: offset, isDurable: true)
                default: .write(offset: offset)
                }
            let ordering: WorkOrdering = [.none, .none, .none, .flushFirst, .barrier].randomElement(using: &random) ?? .none
            let reach: Reach = [.now, .now, .now, .later, .never, .notByTheDisk].randomElement(using: &random) ?? .now
            var more: [DeviceOperation] = []
            if case .writeZeroes = operation { more = (0..<Int.random(in: 0...3, using: &random)).map { zeroes(UInt64($0) << 9) } }
            return Asked(
                id: id, work: BlockWork(operation, ordering: ordering, byteCount: operation.movesData ? 4096 : 0), reach: reach,
                isNonsense: Int.random(in: 0..<10, using: &random) == 0, more: more)
        }

        private mutating func zeroes(_ offset: UInt64) -> DeviceOperation {
            .writeZeroes(offset: offset, byteCount: UInt64(Int.random(in: 0...2, using: &random)) << 9, mayUnmap: false)
        }

        mutating func check() {
            let transport = ScriptedTransport()
            let disk = HeldDisk(transport.names)
            var model = BlockModel(transport, disk: disk, capacity: capacity, segments: 4, time: ManualClock())
            var slow = SlowModel(capacity: capacity, immediate: immediate)
            disk.immediate = { [immediate] work in immediate(work.id, work.stage) }
            var next = 0
            for _ in 0..<30 {
                for _ in 0..<Int.random(in: 0...4, using: &random) {
                    let asked = ask(next)
                    next += 1
                    model.transport.asked.append(asked)
                    slow.asked.append(asked)
                }
                while model.hasWork() { _ = model.takeRequests() }
                slow.settle()
                compare(model, slow, disk)
                guard !disk.held.isEmpty else { continue }
                let ended = disk.release(Int.random(in: 0..<disk.held.count, using: &random))
                let result = Self.result(&random)
                model.ended(tag: ended.tag, result)
                if let index = slow.taken.firstIndex(where: { $0.asked.id == ended.id }) { slow.end(index, result) }
                while model.hasWork() { _ = model.takeRequests() }
                slow.settle()
                compare(model, slow, disk)
            }
        }

        private func compare(_ model: borrowing BlockModel<ScriptedTransport>, _ slow: SlowModel, _ disk: HeldDisk) {
            let atDisk = disk.held.map { Stage(id: $0.id, operation: $0.operation) }
            let expected = slow.taken.filter(\.isAtDisk).compactMap { request in
                request.left.first.map { Stage(id: request.asked.id, operation: $0) }
            }
            #expect(Set(atDisk) == Set(expected) && atDisk.count == expected.count)
            let answers = model.transport.answered
            #expect(Set(answers.map(\.id)).count == answers.count, "a request was answered twice")
            for request in slow.taken {
                #expect(answers.first { $0.id == request.asked.id }?.outcome == request.outcome, "request \(request.asked)")
            }
            let inWork = model.inWork
            let withdrawn = model.transport.withdrawn
            #expect(inWork == slow.taken.filter { $0.outcome == nil }.count)
            #expect(withdrawn == slow.withdrawn)
            // The disk is told where a transfer's data is, and of no data where there is none.
            for work in disk.held { #expect(work.address == (work.operation.movesData ? UInt64(work.id) << 12 : nil)) }
        }
    }

    private struct Stage: Hashable {
        var id: Int
        var operation: String
        init(id: Int, operation: DeviceOperation) {
            self.id = id
            self.operation = "\(operation)"
        }
    }
}
