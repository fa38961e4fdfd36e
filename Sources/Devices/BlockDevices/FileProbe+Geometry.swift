// Sizes, sectors and discard limits, as the kernel tells them.

import CLinux
import Glibc
import LinuxSystem

extension FileProbe {
    /// The capacity in bytes now.
    static func byteCount(_ descriptor: Descriptor, isBlockDevice: Bool) throws(Errno) -> UInt64 {
        isBlockDevice ? try descriptor.blockByteCount() : UInt64(clamping: try descriptor.status().st_size)
    }

    static func describeBlockDevice(_ descriptor: Descriptor, _ geometry: inout BlockGeometry) throws(Errno) {
        let (logical, physical) = try descriptor.blockSectorSizes()
        geometry.logicalSectorSize = max(logical, 512)
        geometry.physicalSectorSize = max(physical, geometry.logicalSectorSize)
        if descriptor.isReadOnlyBlockDevice { geometry.isReadOnly = true }
        if geometry.isReadOnly {
            geometry.canFlush = false
        } else {
            geometry.discard = try blockDiscard(descriptor, logical: logical)
            geometry.zeroes = .canUnmap
        }
    }

    /// A file's sectors are 512 bytes whatever it lies on, so that an image means the same on every host.
    static func describeFile(_ descriptor: Descriptor, _ geometry: inout BlockGeometry) {
        guard let status = try? descriptor.status() else { return }
        let block = UInt32(clamping: status.st_blksize)
        let isPower = block >= 512 && block & (block - 1) == 0
        geometry.physicalSectorSize = isPower ? min(block, 4096) : 512
        if geometry.isReadOnly { return }
        geometry.zeroes = .keepsRoom
        // A hole past the end changes nothing, and tells whether the file system can make one.
        let end = Int64(status.st_size) + Int64(block)
        if causeway_punch_hole(descriptor.rawValue, end, 4096) == 0 {
            geometry.discard = DiscardLimits(granularity: isPower ? block : 4096)
            geometry.zeroes = .canUnmap
        }
    }

    private static func blockDiscard(_ descriptor: Descriptor, logical: UInt32) throws(Errno) -> DiscardLimits? {
        let halves = DeviceHalves(UInt64(try descriptor.status().st_rdev))
        let device = "/sys/dev/block/\(halves.major):\(halves.minor)"
        // A partition has no queue of its own: its disk's is one up.
        func queue(_ attribute: String) -> UInt64? {
            number("\(device)/queue/\(attribute)") ?? number("\(device)/../queue/\(attribute)")
        }
        guard let most = queue("discard_max_bytes"), most > 0 else { return nil }
        let granularity = UInt32(clamping: max(queue("discard_granularity") ?? 0, UInt64(logical)))
        // All ones stands for "cannot be aligned".
        let alignment = number("\(device)/discard_alignment") ?? 0
        return DiscardLimits(
            granularity: granularity, alignment: alignment >= UInt64(granularity) ? 0 : UInt32(alignment),
            secure: canDiscardSecurely(descriptor))
    }

    /// No attribute tells; the ioctl answers EOPNOTSUPP before it looks at its range, and refuses this one with EINVAL.
    private static func canDiscardSecurely(_ descriptor: Descriptor) -> Bool {
        causeway_block_discard(descriptor.rawValue, 1, 1, 1) != 0 && errno == EINVAL
    }

    /// A sysfs attribute that is one decimal number.
    private static func number(_ path: String) -> UInt64? {
        FileSystem.text(of: path).flatMap { UInt64($0.prefix { "0"..."9" ~= $0 }) }
    }
}
