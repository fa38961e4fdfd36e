// Pages put side by side in the address space of the program that we are in: who asks for them gets an address, and no
// more than that.

import CLibxenCompat
import Glibc
import LinuxSystem
import Loopback
import SharedMemory

/// Pages of one region, to be laid.
struct Piece {
    let region: SharedRegion
    let offset: Int
    var byteCount = SharedRegion.pageSize

    /// Whether `next` follows it, so that both are one mapping.
    func isFollowed(by next: Piece) -> Bool { region === next.region && offset + byteCount == next.offset }
}

/// Where pages were laid. Whoever has it unmaps it, once, if it is to be unmapped.
///
/// SAFETY: `byteCount` bytes from `base` on are mapped from `lay` to `unmap`, unless the program unmaps what is its
/// own.
@safe struct Placement: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    let byteCount: Int

    /// The address, as callers name it.
    var address: UInt { UInt(bitPattern: unsafe base) }

    /// Lays `pieces` one after another; nil among them is a page that nobody can touch.
    /// - Parameter fixed: the place, whatever is there; nil: anywhere.
    static func lay(_ pieces: [Piece?], at fixed: UnsafeMutableRawPointer? = nil) throws(LinkFailure) -> Placement {
        let total = pieces.reduce(0) { $0 + ($1?.byteCount ?? SharedRegion.pageSize) }
        let flags = unsafe MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (fixed == nil ? 0 : MAP_FIXED)
        // SAFETY: `total` addresses are reserved first, at the caller's own place or at one of the kernel's; each piece
        // is then put over its part of them and over nothing else. The regions have the pages that the pieces name.
        guard let base = unsafe mmap(fixed, total, PROT_NONE, flags, -1, 0), unsafe base != MAP_FAILED else {
            throw LinkFailure(.current, "room for \(total / SharedRegion.pageSize) pages")
        }
        let placement = unsafe Placement(base: base, byteCount: total)
        var next = 0
        for piece in merged(pieces) {
            if let piece {
                guard
                    unsafe causeway_duplicate_pages(piece.region.unsafeBase + piece.offset, base + next, piece.byteCount) == 0
                else {
                    let error = Errno.current
                    placement.unmap()
                    throw LinkFailure(error, "mapping \(total / SharedRegion.pageSize) pages: \(error)")
                }
            }
            next += piece?.byteCount ?? SharedRegion.pageSize
        }
        return placement
    }

    private static func merged(_ pieces: [Piece?]) -> [Piece?] {
        var merged: [Piece?] = []
        for piece in pieces {
            if let piece, case .some(.some(var last)) = merged.last, last.isFollowed(by: piece) {
                last.byteCount += piece.byteCount
                merged[merged.count - 1] = last
            } else {
                merged.append(piece)
            }
        }
        return merged
    }

    func unmap() { unsafe _ = munmap(base, byteCount) }
}
