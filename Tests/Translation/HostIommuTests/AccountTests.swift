// Locked memory's account and the address space's list (attacks.md PM14).

import LinuxSystem
import Synchronization
import Testing
import TestSupport

@testable import HostIommu

private final class Tally: Sendable {
    let taken = Atomic<Int>(0)
    let most = Atomic<Int>(0)
}

@Suite(.timeLimit(.minutes(1)))
struct AccountTests {
    /// attacks.md PM14: sums near 2^32 and 2^64 do not wrap past the limit.
    @Test(arguments: [1 << 32, 1 << 33, UInt64.max, UInt64.max - 1] as [UInt64])
    func limitsNearTheTop(_ limit: UInt64) throws {
        let account = LockedMemoryAccount(limit: limit)
        try account.charge(limit - 4096)
        for size in [4097, 1 << 32, (1 << 32) + 1, UInt64.max, UInt64.max - limit + 4097, UInt64.max - 4095] as [UInt64]
        where size > 4096 {
            #expect(throws: DMABackEndError.lockedMemory(needed: size, left: 4096, limit: limit)) { try account.charge(size) }
        }
        #expect(account.bytes == limit - 4096)
        try account.charge(4096)
        #expect(account.bytesLeft == 0)
        #expect(throws: DMABackEndError.self) { try account.charge(1) }
        account.release(limit)
        #expect(account.bytes == 0)
        // No limit still is one: the counter's.
        let free = LockedMemoryAccount(limit: nil)
        try free.charge(.max - 1)
        #expect(throws: DMABackEndError.self) { try free.charge(2) }
        // More locked already than the limit allows, which happens when the limit is lowered.
        let over = LockedMemoryAccount(limit: 100, already: 200)
        #expect(over.bytesLeft == 0)
        #expect(throws: DMABackEndError.lockedMemory(needed: 1, left: 0, limit: 100)) { try over.charge(1) }
    }

    /// attacks.md PM14: threads at the limit together never take more than there is.
    @Test func threadsAtTheLimit() throws {
        let account = LockedMemoryAccount(limit: 3 * 4096)
        let tally = Tally()
        try withThreads(4) { _ in
            for _ in 0..<20_000 {
                guard (try? account.charge(4096)) != nil else { continue }
                let now = tally.taken.add(1, ordering: .acquiringAndReleasing).newValue
                tally.most.max(now, ordering: .relaxed)
                tally.taken.subtract(1, ordering: .acquiringAndReleasing)
                account.release(4096)
            }
        }
        #expect(tally.most.load(ordering: .relaxed) <= 3 && account.bytes == 0)
        // Sums that never come back: exactly as many as fit.
        let last = LockedMemoryAccount(limit: 1000)
        try withThreads(4) { _ in for _ in 0..<1000 { try? last.charge(1) } }
        #expect(last.bytes == 1000)
    }

    @Test func ofThisProcess() throws {
        let account = LockedMemoryAccount.ofThisProcess
        let left = account.bytesLeft
        try account.charge(0)
        #expect(account.bytesLeft == left)
    }

    /// Free addresses against a map of every page, looked through from below.
    @Test(arguments: [1, 2, 3, 4, 5, 6, 7, 8] as [UInt64])
    func spaceAgainstABitmap(_ seed: UInt64) {
        var random = SplitMix(seed)
        let granule: UInt64 = seed % 2 == 0 ? 4096 : 16384
        let ranges: [ClosedRange<UInt64>] = [0...0x3_FFFF, 0x4_0000...0x5_FFFF, 0x6_0123...0x9_0122, 0xA_0000...0xA_0FFF]
        var space = IovaSpace(addresses: ranges, granule: granule)
        let units = Int(0xB_0000 / granule)
        var free = (0..<units).map { unit in
            unit > 0
                && (0..<4 as Range<UInt64>).allSatisfy { quarter in
                    let at = UInt64(unit) * granule + quarter * (granule / 4)
                    return ranges.contains { $0.contains(at) && $0.contains(at + granule / 4 - 1) }
                }
        }
        let usable = free
        var live: [(start: Int, count: Int)] = []
        for _ in 0..<600 {
            let count = Int.random(in: 1...6, using: &random)
            if Int.random(in: 0..<9, using: &random) < 4, !live.isEmpty {
                let gone = live.remove(at: Int.random(in: live.indices, using: &random))
                space.giveBack(UInt64(gone.start) * granule, UInt64(gone.count) * granule)
                for unit in gone.start..<gone.start + gone.count { free[unit] = true }
            } else if Bool.random(using: &random) {
                let start = Int.random(in: 0..<units - 6, using: &random)
                let fits = free[start..<start + count].allSatisfy { $0 }
                #expect(
                    space.mayHold(UInt64(start) * granule, UInt64(count) * granule)
                        == usable[start..<start + count].allSatisfy { $0 })
                #expect(space.take(at: UInt64(start) * granule, UInt64(count) * granule) == fits)
                if fits {
                    for unit in start..<start + count { free[unit] = false }
                    live.append((start, count))
                }
            } else {
                let alignment = [1, 2, 4].randomElement(using: &random)!,
                    residue = Int.random(in: 0..<4, using: &random) % alignment
                let wanted = (0..<units - count).first { start in
                    start % alignment == residue && free[start..<start + count].allSatisfy { $0 }
                }
                let got = space.take(
                    UInt64(count) * granule, alignment: UInt64(alignment) * granule, residue: UInt64(residue) * granule)
                #expect(got == wanted.map { UInt64($0) * granule })
                if let wanted {
                    for unit in wanted..<wanted + count { free[unit] = false }
                    live.append((wanted, count))
                }
            }
            var runs: [Int] = [0]
            for unit in free { if unit { runs[runs.count - 1] += 1 } else { runs.append(0) } }
            #expect(space.largest == UInt64(runs.max()!) * granule)
        }
        for gone in live { space.giveBack(UInt64(gone.start) * granule, UInt64(gone.count) * granule) }
        #expect(space.free == space.addresses)
    }

    @Test func wholeSpaces() {
        var space = IovaSpace(addresses: [0...UInt64.max], granule: 4096)
        #expect(space.largest == UInt64.max - 4095)
        #expect(space.take(at: UInt64.max - 4095, 4096) && !space.take(at: UInt64.max - 4095, 4096))
        #expect(!space.take(at: UInt64.max - 4095, 8192) && !space.mayHold(UInt64.max - 4095, 8192))
        space.giveBack(UInt64.max - 4095, 4096)
        #expect(space.free == [4096...UInt64.max])
        #expect(IovaSpace(addresses: [0...4095, 5000...8191, 9000...9001], granule: 4096).free.isEmpty)
    }
}

/// Runs `body` on so many threads at once and waits for them.
func withThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) throws {
    let threads = try (0..<count).map { index in try WorkerThread(name: "test-\(index)") { body(index) } }
    for thread in threads { thread.join() }
}
