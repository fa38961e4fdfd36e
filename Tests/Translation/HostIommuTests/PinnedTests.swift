// Memory that stays where it is, and where that is.

import DMA
import Foundation
@testable import HostIommu
import LinuxSystem
import SharedMemory
import Synchronization
import Testing
import TestSupport

/// Says what it is told to, and keeps a list of what it was asked.
private final class ScriptedPins: PinningKernel, Sendable {
    private struct State {
        var calls: [String] = []
        var frames: [UInt64]?
        var failure: Errno?
        var pins = 0
    }
    private let state = Mutex(State())

    /// Counts the pins there are.
    private final class Pin: Sendable {
        let owner: ScriptedPins
        init(_ owner: ScriptedPins) {
            self.owner = owner
            owner.state.withLock { $0.pins += 1 }
        }
        deinit { owner.state.withLock { $0.pins -= 1 } }
    }

    func pin(_ region: SharedRegion) throws(Errno) -> any Sendable {
        let failure = state.withLock { state in
            state.calls.append("pin")
            return state.failure
        }
        if let failure { throw failure }
        return Pin(self)
    }
    func frames(of region: SharedRegion) throws(Errno) -> [UInt64] {
        state.withLock { state in
            state.calls.append("frames")
            return state.frames ?? (0..<UInt64(region.pageCount)).map { 1000 - $0 * 3 }
        }
    }
    func set(frames: [UInt64]? = nil, failure: Errno? = nil) { state.withLock { ($0.frames, $0.failure) = (frames, failure) } }
    var calls: [String] { state.withLock { $0.calls } }
    var pins: Int { state.withLock { $0.pins } }
}

@Suite struct PinnedTests {
    /// Pinned first and then looked for, once for all who have it, and let go behind the last of them. What a
    /// hypervisor says its frames are is not asked for.
    @Test func places() throws {
        let kernel = ScriptedPins()
        let account = LockedMemoryAccount(limit: 16384)
        let source = PinnedFrameSource(name: "nvme", account: account, kernel: kernel) { Issue.record("\($0)") }
        let region = try SharedRegion(anonymous: 12288)
        let placement = source.place(region) {
            Issue.record("made-up frames")
            return [1, 2, 3]
        }
        #expect(placement == BusPlacement(frames: [1000, 997, 994]))
        #expect(kernel.calls == ["pin", "frames"])
        #expect(source.place(region) == placement && kernel.calls.count == 2)
        #expect(account.bytes == 12288)
        source.remove(region)
        #expect(kernel.pins == 1 && source.count == 1)
        source.remove(region)
        #expect(kernel.pins == 0 && source.count == 0 && account.bytes == 0)
    }

    /// What cannot be had is told of once, with what to do, and nothing of it stays.
    @Test func refusals() throws {
        let (kernel, lines) = (ScriptedPins(), LineCollector())
        let account = LockedMemoryAccount(limit: 16384)
        let source = PinnedFrameSource(name: "nvme", account: account, kernel: kernel) { lines.add($0) }
        let region = try SharedRegion(anonymous: 8192)
        for (frames, failure, words) in [
            ([0, 0], nil, "every page is in frame 0: the kernel tells nobody where memory is but root (CAP_SYS_ADMIN)"),
            ([77, 1 << 40 - 1], nil, "page 1 of 2 is in frame 0xffffffffff: that is no frame of this machine's memory"),
            ([77, 1 << 55 - 1], nil, "page 1 of 2 is in frame 0x7fffffffffffff"),
            ([77, 0], nil, "page 1 of 2 is in frame 0x0"),
            ([77], nil, "of 1"),
            (nil, .noMemory, "the limit of locked memory may be too low (ulimit -l"),
        ] as [([UInt64]?, Errno?, String)] {
            kernel.set(frames: frames, failure: failure)
            #expect(source.place(region) == nil)
            #expect(source.place(region) == nil)
            #expect(lines.all.last?.contains(words) == true, "\(lines.all.last ?? "")")
            #expect(kernel.pins == 0 && account.bytes == 0 && source.count == 0)
        }
        #expect(lines.all.count == 6)
        // More than may be locked: said before the kernel is asked.
        kernel.set()
        let calls = kernel.calls.count
        #expect(source.place(try SharedRegion(anonymous: 20480)) == nil)
        #expect(
            lines.all.last?.contains("20480 bytes would have to be locked in memory, and 16384 of 16384 bytes are left") == true)
        #expect(kernel.calls.count == calls)
        #expect(source.place(region) != nil)
    }

    /// The kernel's own pins: of memory that can be written, of memory that can only be read, and of more pages than
    /// one pipe has.
    @Test func realPins() throws {
        let before = Descriptor.openCount
        do {
            let region = try SharedRegion(anonymous: 64 * 4096)
            let pages = try PinnedPages(region)
            #expect(pages.holders.count == 1)
            let frames = try region.frames()
            #expect(frames.count == 64)
            // As root the frames are there, as anybody else none is.
            #expect(Set(frames).count == (geteuid() == 0 ? 64 : 1))
            let memory = try SealedMemory("pinned", byteCount: 5000 * 4096, final: true)
            let readable = try SharedRegion(mapping: memory.descriptor, byteCount: 5000 * 4096, writable: false)
            let held = try PinnedPages(readable)
            // Two ends each, of two pipes or, where one may have fewer pages, of more.
            #expect(held.holders.count >= 4 && held.holders.count % 2 == 0)
            let writable = try SharedRegion(mapping: memory.descriptor, byteCount: 5000 * 4096, writable: true)
            writable.fill(7, count: 4096, with: 7)
            if geteuid() == 0 {
                let same = try readable.frames()
                #expect(!same.contains(0) && Set(same).count == 5000)
                #expect(try writable.frames()[0] == same[0])
            }
        }
        #expect(Descriptor.openCount == before)
    }
}
