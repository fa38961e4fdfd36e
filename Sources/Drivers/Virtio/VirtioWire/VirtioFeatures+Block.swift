// Feature bits of a virtio disk (VIRTIO_BLK_F_* of linux/virtio_blk.h).

extension VirtioFeatures {
    /// What only disks have.
    public enum Block {
        /// `sizeMax` is set (bit 1).
        @inlinable public static var sizeMax: VirtioFeatures { VirtioFeatures(bit: 1) }
        /// `segmentMax` is set (bit 2).
        @inlinable public static var segmentMax: VirtioFeatures { VirtioFeatures(bit: 2) }
        /// Cylinders, heads and sectors are set (bit 4).
        @inlinable public static var geometry: VirtioFeatures { VirtioFeatures(bit: 4) }
        /// The disk is read-only, whether or not the driver heeds it (bit 5).
        @inlinable public static var readOnly: VirtioFeatures { VirtioFeatures(bit: 5) }
        /// `blockSize` is set (bit 6).
        @inlinable public static var blockSize: VirtioFeatures { VirtioFeatures(bit: 6) }
        /// Flushes are known; without it every write is durable before it is answered (bit 9).
        @inlinable public static var flush: VirtioFeatures { VirtioFeatures(bit: 9) }
        /// The topology's four fields are set (bit 10).
        @inlinable public static var topology: VirtioFeatures { VirtioFeatures(bit: 10) }
        /// The driver may switch the write cache (bit 11).
        @inlinable public static var configurableCache: VirtioFeatures { VirtioFeatures(bit: 11) }
        /// More than one queue (bit 12).
        @inlinable public static var multiQueue: VirtioFeatures { VirtioFeatures(bit: 12) }
        /// Discards (bit 13).
        @inlinable public static var discard: VirtioFeatures { VirtioFeatures(bit: 13) }
        /// Write-zeroes (bit 14).
        @inlinable public static var writeZeroes: VirtioFeatures { VirtioFeatures(bit: 14) }
        /// The disk says how worn it is (bit 15).
        @inlinable public static var lifetime: VirtioFeatures { VirtioFeatures(bit: 15) }
        /// Discards after which nobody can read what was there (bit 16).
        @inlinable public static var secureErase: VirtioFeatures { VirtioFeatures(bit: 16) }
        /// Zones (bit 17).
        @inlinable public static var zoned: VirtioFeatures { VirtioFeatures(bit: 17) }
    }
}
