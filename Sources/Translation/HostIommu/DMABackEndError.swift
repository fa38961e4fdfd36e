// What can go wrong with a back end. Each message names the back end's file or the memory, and the numbers.

import DMA
import FrameMaps
import LinuxSystem

/// Why a back end was not made, or did not map or unmap. Nothing was changed.
public enum DMABackEndError: Error, Hashable, Sendable, CustomStringConvertible {
    /// No back end is called so; those there are.
    case unknown(name: String, known: [String])
    /// It cannot be had here: what could not be opened or used, and why.
    case unavailable(name: String, what: String, why: String)
    /// The name needs something after a colon.
    case needsArgument(name: String, what: String)
    /// An address or a size that is not a multiple of the smallest page.
    case misaligned(UInt64, granule: UInt64)
    /// Not an address that devices may be given.
    case outsideAddresses(Iova, byteCount: UInt64)
    /// Something is mapped there.
    case overlaps(Iova, byteCount: UInt64)
    /// No room for so many bytes in the address space; the largest run that is free.
    case noAddresses(byteCount: UInt64, largest: UInt64)
    /// So many mappings there may be, and are.
    case tooManyMappings(Int)
    /// The memory would exceed what may be locked: bytes needed, bytes left, and the limit (`RLIMIT_MEMLOCK`).
    case lockedMemory(needed: UInt64, left: UInt64, limit: UInt64)
    /// The mapping does not exist: another back end's, or unmapped already.
    case notMapped
    /// The kernel ended another number of bytes than were mapped. The memory stays locked.
    case unmappedOther(byteCount: UInt64, ended: UInt64)
    /// Beyond the mapping's bytes.
    case outsideMapping(offset: UInt64, byteCount: UInt64, mapped: UInt64)
    /// The kernel's interface lacks it.
    case unsupported(String)
    /// The kernel refused: the call and what it was for.
    case kernel(String, Errno)
    /// The DMA layer refused.
    case dma(DMAError)
    /// Numbers or table memory for another region have run out.
    case noFrames(pages: Int)
    /// The range would end a mapping in part: the range, and the mapping.
    case cutsMapping(Iova, byteCount: UInt64, mapped: Iova, of: UInt64)
    /// The device has no such vectors: how many were asked for, and there are.
    case noVectors(DeviceVectors.Kind, wanted: Int, there: Int)

    /// In one line.
    public var description: String {
        switch self {
        case .unknown(let name, let known): "no DMA back end is called \(name); there are \(known.joined(separator: ", "))"
        case .unavailable(let name, let what, let why): "\(name): \(what): \(why)"
        case .needsArgument(let name, let what): "\(name) needs \(what): \(name):…"
        case .misaligned(let value, let granule): "0x\(String(value, radix: 16)) is not a multiple of \(granule)"
        case .outsideAddresses(let iova, let count): "devices cannot be given \(count) bytes at \(iova)"
        case .overlaps(let iova, let count): "something is mapped within \(count) bytes at \(iova)"
        case .noAddresses(let count, let largest):
            "no \(count) bytes of IO address space; the largest run is \(largest) bytes"
        case .tooManyMappings(let limit): "there are \(limit) mappings, as many as there may be"
        case .lockedMemory(let needed, let left, let limit):
            "\(needed) bytes would have to be locked in memory, and \(left) of \(limit) bytes are left (ulimit -l)"
        case .notMapped: "no such mapping (another back end's, or unmapped already)"
        case .unmappedOther(let count, let ended): "of \(count) bytes mapped the kernel unmapped \(ended)"
        case .outsideMapping(let offset, let count, let mapped): "\(count) bytes at \(offset) of a mapping of \(mapped)"
        case .unsupported(let what): "this kernel has no \(what)"
        case .kernel(let call, let errno): "\(call): \(errno)"
        case .dma(let error): "\(error)"
        case .noFrames(let pages): "no frame numbers or table memory for \(pages) pages"
        case .cutsMapping(let iova, let count, let mapped, let of):
            "\(count) bytes at \(iova) would cut the mapping of \(of) bytes at \(mapped), which ends as a whole"
        case .noVectors(let kind, let wanted, let there): "\(wanted) \(kind) vectors, and there are \(there)"
        }
    }
}
