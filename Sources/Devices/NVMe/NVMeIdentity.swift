// What a controller and a namespace say of themselves: 4096 bytes each (NVMe base specification, "Identify").

import BlockDevices

/// A controller's.
struct NVMeControllerIdentity: Equatable {
    var serial: String
    var model: String
    var firmware: String
    /// The most bytes of a transfer; nil: no limit.
    var transferByteCount: UInt64?
    /// How long shutting down may take.
    var shutdownMilliseconds: Int
    var canDeallocate: Bool
    var canWriteZeroes: Bool
    /// Whether what was written may be lost without a flush.
    var hasVolatileCache: Bool
    /// Before a retry, by the number in the status: milliseconds.
    var retryMilliseconds: [Int]

    /// Throws `unsupported` if its entries have another size than ours.
    /// - Parameter page: bytes of the smallest page.
    init(_ bytes: [UInt8], page: UInt64) throws(NVMeError) {
        serial = Self.text(bytes[4..<24])
        model = Self.text(bytes[24..<64])
        firmware = Self.text(bytes[64..<72])
        let shift = UInt64(bytes[77])
        transferByteCount = shift == 0 || shift > 40 ? nil : page << shift
        // RTD3E, microseconds; five seconds at least.
        shutdownMilliseconds = max(5000, Int(bytes.number(88, 4)) / 1000)
        guard bytes[512] & 0xF <= 6, bytes[512] >> 4 >= 6, bytes[513] & 0xF <= 4, bytes[513] >> 4 >= 4 else {
            throw .unsupported("queue entries of 64 and 16 bytes (SQES 0x\(String(bytes[512], radix: 16)))")
        }
        let optional = bytes.number(520, 2)
        canDeallocate = optional & 1 << 2 != 0
        canWriteZeroes = optional & 1 << 3 != 0
        hasVolatileCache = bytes[525] & 1 != 0
        retryMilliseconds = [0] + [128, 130, 132].map { Int(bytes.number($0, 2)) * 100 }
    }

    private static func text(_ bytes: ArraySlice<UInt8>) -> String {
        let end = bytes.lastIndex { $0 != 0x20 && $0 != 0 } ?? bytes.startIndex - 1
        return String(
            decoding: bytes[bytes.startIndex..<max(bytes.startIndex, end + 1)].map { (0x20..<0x7F).contains($0) ? $0 : 0x3F },
            as: UTF8.self)
    }
}

/// A namespace's.
struct NVMeNamespaceIdentity: Equatable {
    let number: UInt32
    /// In blocks.
    var blockCount: UInt64
    /// The block's size, as a power of two.
    var blockShift: Int
    /// Blocks that are written without read-modify-write, and that are deallocated; 1 where it does not say.
    var writeGranularity: UInt64
    var deallocateGranularity: UInt64
    /// Whether zeroes may be deallocated blocks.
    var zeroesMayDeallocate: Bool
    /// Whether it cannot be written.
    var isReadOnly: Bool

    /// Throws for a namespace that is not there, or whose blocks cannot be a disk's.
    init(_ number: UInt32, _ bytes: [UInt8]) throws(NVMeError) {
        self.number = number
        blockCount = bytes.number(0, 8)
        guard blockCount > 0 else { throw .noNamespace(number, active: []) }
        let formats = Int(bytes[25])
        // Bits 6:5 are the upper ones where there are more than 16 formats.
        let format = Int(bytes[26] & 0xF) | (formats > 15 ? Int(bytes[26] >> 5 & 3) << 4 : 0)
        let entry = 128 + 4 * min(format, 63)
        let metadata = Int(bytes.number(entry, 2))
        guard metadata == 0, bytes[29] & 7 == 0 else { throw .metadata(number, byteCount: metadata) }
        blockShift = Int(bytes[entry + 2])
        guard (9...12).contains(blockShift) else { throw .blockSize(number, shift: blockShift) }
        guard blockCount <= UInt64.max >> UInt64(blockShift + 1) else { throw .blockSize(number, shift: blockShift) }
        let saysPreferences = bytes[24] & 1 << 4 != 0
        writeGranularity = saysPreferences ? bytes.number(64, 2) + 1 : 1
        deallocateGranularity = saysPreferences ? bytes.number(68, 2) + 1 : 1
        zeroesMayDeallocate = bytes[33] & 1 << 3 != 0
        isReadOnly = bytes[99] & 1 != 0
    }

    /// What a disk of it is like.
    func geometry(_ controller: NVMeControllerIdentity, readOnly: Bool) -> BlockGeometry {
        let sector = UInt32(1) << UInt32(blockShift)
        let isReadOnly = readOnly || self.isReadOnly
        func bytes(_ blocks: UInt64) -> UInt32 {
            // A size that is no power of two, or larger than a page, says nothing that a disk's user can heed.
            let count = blocks << UInt64(blockShift)
            return count & (count &- 1) == 0 && count <= 1 << 20 ? UInt32(count) : sector
        }
        var geometry = BlockGeometry(
            byteCount: blockCount << UInt64(blockShift), logicalSectorSize: sector,
            physicalSectorSize: min(max(bytes(writeGranularity), sector), 4096), isReadOnly: isReadOnly,
            discard: controller.canDeallocate && !isReadOnly ? DiscardLimits(granularity: bytes(deallocateGranularity)) : nil,
            zeroes: controller.canWriteZeroes && !isReadOnly ? (zeroesMayDeallocate ? .canUnmap : .keepsRoom) : nil,
            canFlush: controller.hasVolatileCache)
        // Every controller knows the bit; without a cache it asks for nothing.
        geometry.writesDurably = controller.hasVolatileCache
        return geometry
    }
}

extension [UInt8] {
    /// Little-endian.
    func number(_ offset: Int, _ count: Int) -> UInt64 {
        (0..<count).reduce(UInt64(0)) { $0 | UInt64(self[offset + $1]) << UInt64($1 * 8) }
    }
}
