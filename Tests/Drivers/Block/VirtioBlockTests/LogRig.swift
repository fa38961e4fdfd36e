// A log of dirty pages as a front end has it, and what it does with one: fetch, clear, copy.

import Connectors
import LinuxSystem
import SharedMemory
import Testing
import VhostUser
import VirtioRing
import VirtioWire

@testable import VirtioBlock

/// A log of the driver's memory in a file of its own.
final class SharedLog {
    let file: Descriptor
    let region: SharedRegion
    let byteCount: UInt64
    private let firstPage = Int(VhostDriver.guestBase / DirtyLog.pageBytes)

    init(for driver: VhostDriver) throws {
        byteCount = (VhostDriver.guestBase + UInt64(driver.region.byteCount)) / DirtyLog.pageBytes / 8
        let memory = try SealedMemory("log", byteCount: SharedRegion.wholePages(Int(byteCount)), final: false)
        file = memory.descriptor
        region = try SharedRegion(mapping: file, byteCount: memory.byteCount, writable: true)
    }

    /// Pages of the driver's memory that are marked; none is afterwards.
    func fetch() -> Set<Int> {
        var pages: Set<Int> = []
        for offset in stride(from: 0, to: Int(byteCount), by: 4) {
            if region.loadRelaxed(offset) == 0 { continue }
            let word = UInt32(littleEndian: region.bitwiseAnd(offset, 0))
            for bit in 0..<32 where word >> bit & 1 != 0 { pages.insert(offset * 8 + bit - firstPage) }
        }
        return pages
    }
}

extension VhostDriver {
    static let memoryPages = 512

    /// As QEMU does when a guest begins to migrate.
    func begin(_ log: SharedLog) throws {
        try send(6, log.byteCount, 0, descriptors: [log.file])
        try send(2, features.union([.protocolFeatures, .logAll]).rawValue)
        for ring in sizes.keys.sorted() { try place(ring, isLogged: true) }
    }

    /// As QEMU does when that failed.
    func endLog() throws {
        try send(2, features.union(.protocolFeatures).rawValue)
        for ring in sizes.keys.sorted() { try place(ring, isLogged: false) }
    }

    /// Pages of `count` bytes at `offset` of the driver's memory.
    func pages(_ offset: Int, _ count: Int) -> Set<Int> { Set(offset / 4096...(offset + count - 1) / 4096) }

    /// All pages that the device may write into a ring of this driver's.
    func devicePages(_ ring: Int) -> Set<Int> {
        let areas = VirtqueueAreas(in: region, at: ring * 0x8000, size: sizes[ring] ?? 0, features: features)
        guard !areas.isPacked else { return pages(areas.descriptors.offset, 16 * areas.size).union(pages(areas.device.offset, 4)) }
        return pages(areas.device.offset, SplitLayout.deviceBytes(areas.size, eventIndex: true))
    }
}
