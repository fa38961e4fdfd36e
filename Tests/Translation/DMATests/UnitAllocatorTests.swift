// The allocator against a bitmap searched from end to end (attacks.md PM16).

import Testing
import TestSupport

@testable import DMA

@Suite(.timeLimit(.minutes(1)))
struct UnitAllocatorTests {
    @Test(arguments: [1, 2, 63, 64, 65, 100, 4095, 4096, 4097, 5000, 270_000], [1, 2] as [UInt64])
    func againstABitmap(_ capacity: Int, _ seed: UInt64) throws {
        var random = SplitMix(seed)
        let allocator = try UnitAllocator(capacity: capacity, of: "units", name: "test")
        var taken = [Bool](repeating: false, count: capacity)
        var live: [(start: Int, order: Int)] = []
        let largest = UnitAllocator.order(capacity) + 1
        for round in 0..<(capacity > 5000 ? 300 : 1200) {
            if Int.random(in: 0..<100, using: &random) < (round / 150 % 2 == 0 ? 70 : 30) || live.isEmpty {
                let order = min(
                    Int.random(in: 0...largest, using: &random), Int.random(in: 0...largest, using: &random))
                if let start = allocator.allocate(order: order) {
                    #expect(start & ((1 << order) - 1) == 0)
                    #expect(start + 1 << order <= capacity)
                    if taken[start..<start + 1 << order].contains(true) {
                        Issue.record("given out twice: \(start) order \(order)")
                    }
                    for index in start..<start + 1 << order { taken[index] = true }
                    live.append((start, order))
                } else if capacity <= 5000, order < 12 {
                    // Exact: it fails only when no aligned run is free, all units in one included.
                    let size = 1 << order
                    let fits = stride(from: 0, through: capacity - size, by: size).contains {
                        !taken[$0..<$0 + size].contains(true)
                    }
                    if fits {
                        Issue.record("refused though free: order \(order) of \(capacity)")
                    }
                }
            } else {
                let gone = live.remove(at: Int.random(in: live.indices, using: &random))
                let isGone = allocator.release(gone.start, order: gone.order)
                #expect(isGone)
                for index in gone.start..<gone.start + 1 << gone.order { taken[index] = false }
                // A second time it is refused.
                let isGoneAgain = allocator.release(gone.start, order: gone.order)
                #expect(!isGoneAgain)
            }
            if round % 100 == 0 {
                let free = allocator.freeUnits
                #expect(free == taken.count { !$0 })
            }
        }
        for gone in live { allocator.release(gone.start, order: gone.order) }
        let free = allocator.freeUnits
        #expect(free == capacity)
        // All of it is one again.
        if let order = allocator.largestOrder {
            let all = allocator.allocate(order: order)
            #expect(all != nil)
        }
    }

    /// A power of two of units is one request, as a run of the largest that C may ask for is; and what is never free
    /// stays so.
    @Test(arguments: [1, 64, 4096, 1 << 18, 1 << 20, 1 << 24, 1 << 26])
    func allOfIt(_ capacity: Int) throws {
        let order = capacity.trailingZeroBitCount
        let allocator = try UnitAllocator(capacity: capacity, of: "units", name: "test")
        #expect(allocator.largestOrder == order && allocator.allocate(order: order) == 0 && allocator.allocate(order: 0) == nil)
        let isGone = allocator.release(0, order: order)
        #expect(isGone && allocator.freeUnits == capacity)
        guard capacity > 256 else { return }
        let behind = try UnitAllocator(capacity: capacity, from: 256, of: "units", name: "test")
        #expect(behind.freeUnits == capacity - 256 && behind.largestOrder == order - 1)
        let first = behind.allocate(order: 0)
        #expect(first == 256 && behind.allocate(order: order) == nil)
    }

    @Test func theSameCallsGiveTheSamePlaces() throws {
        func places() throws -> [Int?] {
            var random = SplitMix(7)
            let allocator = try UnitAllocator(capacity: 1000, of: "units", name: "test")
            return (0..<500).map { _ in
                let place = allocator.allocate(order: Int.random(in: 0...3, using: &random))
                if let place, place % 3 == 0 { allocator.release(place, order: 0) }
                return place
            }
        }
        let (first, second) = (try places(), try places())
        #expect(first == second)
    }
}
