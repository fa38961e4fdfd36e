// Power that fails at any moment: what a guest was promised is on stable storage, in the order that it asked for. A
// disk with a cache ends its operations in any order; of what is in its cache anything, or nothing, may outlive the
// power.

import BlockDevices
import BlockModel
import LinuxSystem
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(1))) struct PowerLossTests {
    @Test(arguments: 1...40 as ClosedRange<UInt64>)
    func L20_whatWasFlushedOutlivesThePowerWheneverItFails(_ seed: UInt64) {
        for round in 0..<8 as Range<UInt64> {
            var run = Run(SplitMix(seed << 32 | round))
            run.play()
            #expect(run.lost == [], "seed \(seed), round \(round)")
        }
    }

    /// One run. Requests are numbered as they are taken.
    private struct Run: ~Copyable {
        private var random: SplitMix
        private var model: BlockModel<ScriptedTransport>
        private let disk: HeldDisk
        private let asked: [Asked]

        // The disk's cache.
        private var cached: Set<Int> = []
        private var stored: Set<Int> = []
        /// What each flush that is under way will have put on stable storage.
        private var flushing: [UInt32: Set<Int>] = [:]
        private var looked = 0

        // What the guest knows.
        private var answered: Set<Int> = []
        private var heard = 0
        /// Which writes it had been answered when each request was taken.
        private var before: [Set<Int>] = []
        private var promised: Set<Int> = []
        /// Promises that were broken, by the moment.
        private(set) var lost: [String] = []

        init(_ random: consuming SplitMix) {
            var random = random
            asked = (0..<30).map { id in Self.request(id, &random) }
            var transport = ScriptedTransport()
            transport.asked = asked
            disk = HeldDisk(transport.names)
            let capacity = Int.random(in: 1...8, using: &random)
            self.random = random
            model = BlockModel(transport, disk: disk, capacity: capacity, segments: 4, time: ManualClock())
        }

        private static func request(_ id: Int, _ random: inout SplitMix) -> Asked {
            let operation: DeviceOperation =
                switch Int.random(in: 0..<8, using: &random) {
                case 0, 1: .flush
                case 2: .read(offset: 0)
                case 3: .write(offset: UInt64(id) << 12, isDurable: true)
                default: .write(offset: UInt64(id) << 12)
                }
            let ordering: WorkOrdering = [.none, .none, .none, .flushFirst, .barrier].randomElement(using: &random) ?? .none
            return Asked(id: id, work: BlockWork(operation, ordering: ordering, byteCount: operation == .flush ? 0 : 4096))
        }

        private func isWrite(_ id: Int) -> Bool { if case .write = asked[id].work.operation { true } else { false } }

        /// Takes, and ends what is at the disk in any order, until everything is answered.
        mutating func play() {
            for _ in 0..<2000 where answered.count < asked.count {
                if model.hasWork(), disk.held.isEmpty || Bool.random(using: &random) {
                    let waiting = model.transport.asked.count
                    _ = model.takeRequests()
                    for _ in model.transport.asked.count..<waiting { before.append(answered) }
                } else if !disk.held.isEmpty {
                    end(disk.release(Int.random(in: 0..<disk.held.count, using: &random)))
                }
                look()
                failPower()
            }
            if answered.count < asked.count { lost.append("\(asked.count - answered.count) requests have no end") }
        }

        /// The disk ends an operation, one in sixteen badly.
        private mutating func end(_ work: AtDisk) {
            let isGood = Int.random(in: 0..<16, using: &random) > 0
            let covered = flushing.removeValue(forKey: work.tag)
            if isGood {
                switch work.operation {
                case .write(_, let isDurable):
                    cached.insert(work.id)
                    if isDurable { stored.insert(work.id) }
                case .flush: stored.formUnion(covered ?? [])
                default: break
                }
            }
            model.ended(tag: work.tag, isGood ? .done : .failed(.ioError))
        }

        /// What has begun at the disk, and what was answered, since the last look.
        private mutating func look() {
            let begun = disk.begun
            for work in begun[looked...] {
                if work.operation == .flush { flushing[work.tag] = cached }
                guard isWrite(work.id), work.operation != .flush else { continue }
                // It may be stored from now on: what had to be so before it must be.
                for earlier in 0..<work.id where asked[earlier].work.ordering == .barrier {
                    if !answered.contains(earlier) { lost.append("\(work.id) overtakes the barrier \(earlier)") }
                }
                if asked[work.id].work.ordering == .flushFirst { promise(before[work.id]) }
                if asked[work.id].work.ordering == .barrier { promise(Set(0..<work.id)) }
            }
            looked = begun.count
            let answers = model.transport.answered
            for answer in answers[heard...] {
                answered.insert(answer.id)
                guard answer.outcome == .done else { continue }
                let work = asked[answer.id].work
                if work.ordering == .barrier {
                    promise(Set(0...answer.id))
                } else if work.operation == .flush {
                    promise(before[answer.id])
                }
            }
            heard = answers.count
        }

        /// Writes that failed were told to have, and are promised to nobody.
        private mutating func promise(_ ids: Set<Int>) { promised.formUnion(ids.intersection(cached)) }

        /// The worst that a failing power can do: nothing of the cache is left.
        private mutating func failPower() {
            let gone = promised.subtracting(stored)
            if !gone.isEmpty { lost.append("after \(answered.count) answers: \(gone.sorted())") }
        }
    }
}
