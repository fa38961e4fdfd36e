// The ten bytes before each frame on a tap (`struct virtio_net_hdr`, linux/virtio_net.h), in the host's byte order.

import Packets

/// A frame's offloads as a tap reads and writes them.
struct VirtioHeader: Equatable {
    static let size = 10
    var flags: UInt8 = 0
    var type: UInt8 = 0
    var headerCount: UInt16 = 0
    var segmentSize: UInt16 = 0
    var checksumStart: UInt16 = 0
    var checksumField: UInt16 = 0

    private enum Bits {
        static let needsChecksum: UInt8 = 1
        static let dataValid: UInt8 = 2
        static let tcp4: UInt8 = 1
        static let tcp6: UInt8 = 4
        static let congestion: UInt8 = 0x80
    }

    init() {}

    init(_ offload: FrameOffload) {
        if let checksum = offload.checksum {
            flags = Bits.needsChecksum
            checksumStart = checksum.start
            checksumField = checksum.field
        } else if offload.isValidated {
            flags = Bits.dataValid
        }
        if let segmentation = offload.segmentation {
            type = segmentation.type == .tcp4 ? Bits.tcp4 : Bits.tcp6
            segmentSize = segmentation.size
            headerCount = segmentation.headerCount
        }
    }

    /// As it lies before a frame.
    var bytes: [UInt8] {
        [flags, type] + [headerCount, segmentSize, checksumStart, checksumField].flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
    }

    /// The header in ten bytes.
    init(_ bytes: some Collection<UInt8>) {
        let bytes = Array(bytes)
        func word(_ at: Int) -> UInt16 { UInt16(bytes[at]) | UInt16(bytes[at + 1]) << 8 }
        flags = bytes[0]
        type = bytes[1]
        headerCount = word(2)
        segmentSize = word(4)
        checksumStart = word(6)
        checksumField = word(8)
    }

    /// As a value; nil if it says what was never asked for: UDP in segments, segments without a size.
    var offload: FrameOffload? {
        var offload = FrameOffload()
        if flags & Bits.needsChecksum != 0 {
            offload.checksum = .init(start: checksumStart, field: checksumField)
        }
        offload.isValidated = flags & Bits.dataValid != 0
        switch type & ~Bits.congestion {
        case 0: break
        case Bits.tcp4 where segmentSize > 0:
            offload.segmentation = .init(type: .tcp4, size: segmentSize, headerCount: headerCount)
        case Bits.tcp6 where segmentSize > 0:
            offload.segmentation = .init(type: .tcp6, size: segmentSize, headerCount: headerCount)
        default: return nil
        }
        return offload
    }
}
