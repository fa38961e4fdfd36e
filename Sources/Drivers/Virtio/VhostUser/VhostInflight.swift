// Memory for what is in flight, which the front end keeps for us: made here on demand, handed over, and given back to
// whoever serves the device next, this process or its successor.

import LinuxSystem
import SharedMemory
import VirtioRing

/// In-flight memory in which each ring has its part.
struct VhostInflight {
    let area: VhostInflightArea
    /// For packed rings, which need more.
    let isPacked: Bool
    /// The memory itself, for a successor that maps it anew.
    let descriptor: Descriptor
    private let region: SharedRegion

    /// Bytes of a ring's part.
    private static func partBytes(_ queueSize: UInt16, _ isPacked: Bool) -> Int {
        isPacked ? PackedInflightLayout.byteCount(Int(queueSize)) : InflightLayout.byteCount(Int(queueSize))
    }

    /// Makes memory for as many rings as are asked for, all zero; its description, and what keeps it.
    static func make(_ wanted: VhostInflightArea, rings: Int, isPacked: Bool) throws(VhostUserError) -> (
        VhostInflightArea, Descriptor
    ) {
        guard wanted.queues > 0, Int(wanted.queues) <= rings, wanted.queueSize > 0 else {
            throw .badInflight(queues: wanted.queues, queueSize: wanted.queueSize)
        }
        let byteCount = SharedRegion.wholePages(Int(wanted.queues) * partBytes(wanted.queueSize, isPacked))
        do throws(Errno) {
            let memory = try SealedMemory("vhost-inflight", byteCount: byteCount, final: true)
            var area = wanted
            (area.byteCount, area.offset) = (UInt64(byteCount), 0)
            return (area, memory.descriptor)
        } catch { throw .cannotMap(error) }
    }

    /// Maps what `make` made, here or in a predecessor.
    init(_ area: VhostInflightArea, _ descriptor: Descriptor, isPacked: Bool) throws(VhostUserError) {
        let needed = UInt64(area.queues) * UInt64(Self.partBytes(area.queueSize, isPacked))
        guard area.queues > 0, area.queueSize > 0, area.offset % 8 == 0, area.offset < VhostLimits.mappedBytes,
            area.byteCount >= needed
        else { throw .badInflight(queues: area.queues, queueSize: area.queueSize) }
        let end = area.offset + needed
        guard descriptor.cannotShrink else { throw .mayShrink(guest: 0) }
        let held = descriptor.fileByteCount
        guard held >= end else { throw .shortFile(byteCount: held, needed: end) }
        self.area = area
        self.isPacked = isPacked
        self.descriptor = descriptor
        do throws(Errno) {
            region = try SharedRegion(mapping: descriptor, byteCount: SharedRegion.wholePages(Int(end)), writable: true)
        } catch { throw .cannotMap(error) }
    }

    /// Makes a ring's part as if it had never been used.
    func clear(_ part: RingArea, isPacked: Bool) { region.fill(part.offset, count: Self.partBytes(area.queueSize, isPacked)) }

    /// A ring's part; nil: it has none, or one for fewer entries, or for another kind of ring.
    func part(of ring: Int, entries: UInt32, isPacked: Bool) -> RingArea? {
        guard ring < area.queues, entries <= area.queueSize, isPacked == self.isPacked else { return nil }
        return RingArea(region, at: Int(area.offset) + ring * Self.partBytes(area.queueSize, isPacked))
    }
}
