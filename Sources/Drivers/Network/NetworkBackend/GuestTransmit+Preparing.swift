// Where a packet's bytes are: its head copied, the rest in mapped pages, or all of it copied by the hypervisor.

import DMA
import DriverRuntime
import Hypervisor
import NetworkProtocol
import Packets
import SharedMemory

extension GuestTransmit {
    /// Finds where the packet's bytes are.
    mutating func prepare() {
        var marks = FrameMarks()
        marks.isBlank = packet.flags.contains(.checksumBlank)
        marks.isValidated = packet.flags.contains(.dataValidated)
        marks.segmentation = packet.segmentation
        let firstID = ids.count
        for part in packet.parts { ids.append(part.id) }
        var entry = Outgoing(
            firstID: firstID, idCount: packet.parts.count, extraCount: packet.extraCount, firstPiece: pieces.count,
            pieceCount: 0, byteCount: packet.byteCount, marks: marks, isCopied: false, head: 0, headCount: 0)
        if !refer(&entry) || headersReachBeyond(entry) { copy(&entry) }
        if let trace { trace.assembled(packet, .packet, at: outgoing.count) }
        outgoing.append(entry)
    }

    /// Whether more of the packet has to be looked at than was copied: all of it is copied then, so that what is looked
    /// at is what is sent, however long its headers are.
    @inline(__always)
    func headersReachBeyond(_ entry: Outgoing) -> Bool {
        guard entry.marks.finished == nil, entry.headCount < entry.byteCount else { return false }
        return FrameHeaders.reachBeyond(entry.headCount, in: heads.region, at: entry.head)
    }

    /// Names the packet's mapped pages; false if one is not mapped.
    mutating func refer(_ entry: inout Outgoing) -> Bool {
        entry.headCount = min(packet.byteCount, FrameHeaders.firstLook)
        entry.head = (outgoing.count % TurnLimits.frames) * Self.headSize
        var copied = 0
        pieces.append(heads.piece(entry.head, entry.headCount))
        for part in packet.parts {
            guard let page = mappings.page(part.reference, writable: false) else {
                pieces.removeLast(pieces.count - entry.firstPiece)
                return false
            }
            var rest = PagePiece(pfn: page, offset: UInt32(part.offset), byteCount: UInt32(part.byteCount))
            let skip = min(entry.headCount - copied, Int(rest.byteCount))
            if skip > 0 {
                // Copied before anything is decided on it; what faults here faults in the device, too.
                let head = PagePiece(pfn: page, offset: rest.offset, byteCount: UInt32(skip))
                _ = dma.read(head, into: heads.region, at: entry.head + copied)
                copied += skip
                rest.offset += UInt32(skip)
                rest.byteCount -= UInt32(skip)
                if rest.byteCount == 0 { continue }
            }
            pieces.append(rest)
        }
        entry.pieceCount = pieces.count - entry.firstPiece
        statistics.mappedFrames &+= 1
        return true
    }

    /// Lets the hypervisor copy the packet; no copy crosses a page on either side (attacks.md B14).
    mutating func copy(_ entry: inout Outgoing) {
        if entry.pieceCount > 0 {
            // Its pages were named already.
            pieces.removeLast(entry.pieceCount)
            statistics.mappedFrames &-= 1
        }
        entry.isCopied = true
        entry.head = bounceUsed
        entry.headCount = packet.byteCount
        let owner = Int32(outgoing.count)
        for part in packet.parts {
            var done = 0
            while done < Int(part.byteCount) {
                let room = SharedRegion.pageSize - bounceUsed % SharedRegion.pageSize
                let count = min(room, Int(part.byteCount) - done)
                copies.append(
                    GrantCopy(
                        source: .grant(part.reference, of: frontend, offset: Int(part.offset) + done),
                        destination: .local(bounce.region, offset: bounceUsed), byteCount: count))
                copyOwners.append(owner)
                bounceUsed += count
                done += count
            }
        }
        bounce.append(entry.head, packet.byteCount, to: &pieces)
        entry.pieceCount = pieces.count - entry.firstPiece
        statistics.copiedFrames &+= 1
    }

    /// A packet whose bytes cannot be had, once for all of its parts.
    private mutating func lose(_ place: Int) {
        if outgoing[place].status == .okay { interface.transmitDrops.add(.unreachable) }
        outgoing[place].status = .error
    }

    /// A packet of which a part could not be had is answered with an error (attacks.md B8).
    mutating func copyAll() {
        do throws(HypervisorError) {
            let statuses = try hypervisor.copyGrants(copies)
            for index in copyOwners.indices where index >= statuses.count || statuses[index] != .okay {
                lose(Int(copyOwners[index]))
            }
        } catch {
            for owner in copyOwners { lose(Int(owner)) }
        }
        copies.removeAll(keepingCapacity: true)
        copyOwners.removeAll(keepingCapacity: true)
    }
}
