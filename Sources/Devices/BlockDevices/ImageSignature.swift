// Whether an image that is to be served byte for byte looks like one of another format. Only ever a remark: a guest may
// write what it likes on its disk, and what it writes must neither change how the disk is read nor keep it from being
// attached (attacks.md A32).

import Glibc
import LinuxSystem

/// What an image's first and last bytes are known by.
public enum ImageSignature {
    private static let heads: [(offset: Int, bytes: [UInt8], name: String)] = [
        (0, [0x51, 0x46, 0x49, 0xFB], "qcow2"),
        (0, Array("QED\0".utf8), "QED"),
        (0, Array("KDMV".utf8), "VMDK"),
        (0, Array("COWD".utf8), "VMDK"),
        (0, Array("# Disk DescriptorFile".utf8), "VMDK"),
        (0, Array("vhdxfile".utf8), "VHDX"),
        (0, Array("conectix".utf8), "VHD"),
        (64, [0x7F, 0x10, 0xDA, 0xBE], "VDI"),
    ]

    /// The format that the image at `path` looks like; nil if it looks like none that is known, or cannot be read.
    public static func format(of path: String) -> String? {
        let kind = try? FileSystem.kind(of: path)
        guard kind == .regular || kind == .blockDevice,
            let file = try? Descriptor.open(path, O_RDONLY | O_NONBLOCK), let head = try? file.read(512, at: 0)
        else { return nil }
        for known in heads where head.dropFirst(known.offset).starts(with: known.bytes) { return known.name }
        // A VHD of fixed size is the raw image, and then half a kilobyte about it.
        let size = kind == .regular ? (try? file.status().st_size) ?? 0 : 0
        guard size >= 1024, let tail = try? file.read(512, at: size - 512) else { return nil }
        return tail.starts(with: "conectix".utf8) ? "VHD" : nil
    }
}
