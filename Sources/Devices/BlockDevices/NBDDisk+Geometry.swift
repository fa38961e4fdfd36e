// What an NBD server says of its export, as a disk's geometry.

import LibNBD

extension NBDConnection {
    /// What the server says of its export, named `uri` in errors.
    func geometry(uri: String, readOnly: Bool) throws(DeviceError) -> BlockGeometry {
        let size: UInt64
        do throws(NBDError) { size = try byteCount() } catch { throw .nbd(uri: uri, reason: error.reason) }
        let least = blockSize(.minimum)
        if least > 4096 { throw .nbd(uri: uri, reason: "the server needs blocks of \(least) bytes; at most 4096 are possible") }
        let sector = UInt32(max(least, 512))
        let preferred = UInt32(clamping: blockSize(.preferred))
        let isReadOnly = readOnly || isReadOnly
        var geometry = BlockGeometry(
            byteCount: size, logicalSectorSize: sector,
            physicalSectorSize: min(max(preferred, sector), 1 << 16), isReadOnly: isReadOnly, canFlush: !isReadOnly && canFlush)
        if !isReadOnly && canTrim { geometry.discard = DiscardLimits(granularity: geometry.physicalSectorSize) }
        geometry.writesDurably = geometry.canFlush && canWriteDurably
        // A server says nothing of whether zeroes give room back; it is told where they may not.
        if !isReadOnly && canZero { geometry.zeroes = .canUnmap }
        if size < UInt64(sector) { throw .empty(name: uri, byteCount: size) }
        if size % UInt64(sector) != 0 { throw .partSector(name: uri, byteCount: size, sector: UInt64(sector)) }
        return geometry
    }

    /// Most bytes of one read or write; libnbd's own limit is 64 MiB, and a server may say less.
    var largestTransfer: UInt64 {
        let most = blockSize(.maximum)
        return most > 0 ? min(most & ~4095, 1 << 25) : 1 << 25
    }
}
