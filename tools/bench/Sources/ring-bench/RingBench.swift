// Nanoseconds per request and response through a ring, one thread, batches of 16: ours beside Xen's macros in C,
// interleaved.

import BlockProtocol
import CRingMacros
import SharedMemory
import SharedRing
import XenTypes

@main struct RingBench {
    static let batch = 16
    static let rounds: UInt64 = 4_000_000

    static func main() throws {
        let region = try SharedRegion(anonymous: 4096)
        var figures: [(name: String, runs: [Double])] = []
        func record(_ name: String, _ body: () throws -> UInt64) rethrows {
            if CommandLine.arguments.count > 1, !name.contains(CommandLine.arguments[1]) { return }
            let clock = ContinuousClock()
            var sum: UInt64 = 0
            let start = clock.now
            sum = try body()
            let time = clock.now - start
            guard sum != 1 else { return print("impossible") }
            let nanoseconds = Double(time.components.attoseconds) / 1e9 + Double(time.components.seconds) * 1e9
            let figure = nanoseconds / Double(rounds)
            if let at = figures.firstIndex(where: { $0.name == name }) {
                figures[at].runs.append(figure)
            } else {
                figures.append((name, [figure]))
            }
        }
        for _ in 0..<7 {
            record("ring.h in C, 1 segment") {
                unsafe cring_round_trips(region.unsafeBase, UInt(region.byteCount), rounds, UInt32(batch))
            }
            for abi in [BlockABI.x86_64, .x86_32] {
                for segments in [1, 11] {
                    try record("ours, \(abi), \(segments) segments") {
                        try roundTrips(region, BlockRing(abi), segments: segments, validator: nil)
                    }
                }
            }
            try record("validated, x86_64-abi, 1 segment") {
                try roundTrips(region, BlockRing(.x86_64), segments: 1, validator: BlockRequestValidator(sectorCount: 1 << 40))
            }
            try record("validated, x86_64-abi, 11 segments") {
                try roundTrips(region, BlockRing(.x86_64), segments: 11, validator: BlockRequestValidator(sectorCount: 1 << 40))
            }
        }
        for figure in figures {
            let sorted = figure.runs.sorted()
            let padded = figure.name + String(repeating: " ", count: max(0, 44 - figure.name.count))
            print("\(padded) \(round(sorted[3])) ns (best \(round(sorted[0])), worst \(round(sorted[6])))")
        }
    }

    static func round(_ value: Double) -> String { String((value * 100).rounded() / 100) }

    @inline(never)
    static func roundTrips(
        _ region: SharedRegion, _ contents: BlockRing, segments: Int, validator: BlockRequestValidator?
    ) throws -> UInt64 {
        var front = FrontRing(initialising: region, contents)
        var back = BackRing(attaching: region, contents)
        var sum: UInt64 = 0
        var done: UInt64 = 0
        var taken = BlockRequest()
        var ranges: [SegmentRange] = []
        while done < rounds {
            for index in 0..<UInt64(batch) {
                var request = BlockRequest(.read, id: done &+ index, sector: done)
                for segment in 0..<segments { request.append(BlockSegment(GrantReference(UInt32(segment)))) }
                _ = front.push(from: &request)
            }
            if front.publish() { sum &+= 1 }
            while try back.nextRequest(into: &taken) {
                if let validator {
                    guard case .transfer = try validator.validate(&taken, into: &ranges) else { return 1 }
                    for range in ranges { sum &+= UInt64(range.byteCount) }
                }
                back.push(BlockResponse(to: taken, status: .okay))
            }
            if back.publish() { sum &+= 1 }
            while let response = try front.nextResponse() { sum &+= response.id }
            if back.armAndRecheck() || front.armAndRecheck() { return 1 }
            done &+= UInt64(batch)
        }
        return sum
    }
}
