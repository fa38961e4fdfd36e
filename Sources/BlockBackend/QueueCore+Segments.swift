// What the disk is given of a request's pages: mapped for it, and taken back.

import DMA
import HostDevices
import XenWire

extension QueueCore {
    /// Maps a request's pages for the disk; its segments are in `segments`. False: the disk cannot have them.
    mutating func mapSegments(_ slot: Int32, _ direction: DMADirection) -> Bool {
        segments.removeAll(keepingCapacity: true)
        let base = Int(slot) * stride
        if isDirect {
            var bytes: UInt64 = 0
            for index in base..<base + Int(pending[Int(slot)].pageCount) {
                guard let range = ranges[index] else { continue }
                segments.appendDirect(pages[index], offset: Int(range.byteOffset), byteCount: Int(range.byteCount))
                bytes &+= UInt64(range.byteCount)
            }
            mappings[Int(slot)] = Mapping(handle: dma.recordDirect(direction, byteCount: bytes), direction: direction)
            return true
        }
        pieces.removeAll(keepingCapacity: true)
        for index in base..<base + Int(pending[Int(slot)].pageCount) {
            guard let range = ranges[index] else { continue }
            pieces.append(
                PagePiece(pfn: pages[index], offset: UInt32(range.byteOffset), byteCount: UInt32(range.byteCount)))
        }
        // Taken out for the call: a span of one field and another field at once would be two accesses to this struct.
        var mapped: [BusSegment] = []
        swap(&mapped, &segments)
        defer { swap(&mapped, &segments) }
        do throws(DMAError) {
            let handle = try dma.map(pieces.span, direction, into: &mapped)
            mappings[Int(slot)] = Mapping(handle: handle, direction: direction)
            return true
        } catch {
            statistics.memory.unmappable &+= 1
            note("a transfer cannot be mapped: \(error)")
            return false
        }
    }

    /// Takes the pages away from the disk again; what it has read is in them afterwards, also where it went through a bounce.
    mutating func unmapSegments(_ slot: Int32) {
        guard let mapping = mappings[Int(slot)] else { return }
        mappings[Int(slot)] = nil
        // Fails only for a mapping that is not ours, which our own bookkeeping rules out: worth a line whenever it happens.
        do throws(DMAError) { try dma.unmap(mapping.handle, mapping.direction) } catch {
            statistics.memory.unmapFailures &+= 1
            note("a mapping of slot \(slot) cannot be ended: \(error)")
        }
    }

    /// Keeps the first of a turn's troubles for the log.
    mutating func note(_ text: String) { if trouble == nil { trouble = text } }

    mutating func submit(_ operation: DeviceOperation, _ slot: Int32) {
        if case .flush = operation {
            statistics.flushes &+= 1
            segments.removeAll(keepingCapacity: true)
        } else if case .discard = operation {
            segments.removeAll(keepingCapacity: true)
        }
        if let result = disk.submit(operation, tag: UInt32(slot), segments: segments.span) { ended(slot, result) }
    }
}
