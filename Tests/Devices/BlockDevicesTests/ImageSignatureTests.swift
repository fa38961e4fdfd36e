// What an image looks like is a remark about it and nothing more.

import Foundation
import Testing
import TestSupport

@testable import BlockDevices

@Suite struct ImageSignatureTests {
    @Test(
        "formats by their first bytes, a fixed VHD by its last",
        arguments: [
            ("qcow2", [0x51, 0x46, 0x49, 0xFB], 0), ("QED", Array("QED\0".utf8), 0), ("VMDK", Array("KDMV".utf8), 0),
            ("VMDK", Array("# Disk DescriptorFile\nversion=1".utf8), 0), ("VHDX", Array("vhdxfile".utf8), 0),
            ("VHD", Array("conectix".utf8), 0), ("VHD", Array("conectix".utf8), 4096 - 512), ("VDI", [0x7F, 0x10, 0xDA, 0xBE], 64),
        ] as [(String, [UInt8], Int)])
    func formats(_ name: String, _ bytes: [UInt8], _ offset: Int) throws {
        let scratch = try TemporaryDirectory()
        var image = [UInt8](repeating: 0, count: 4096)
        image.replaceSubrange(offset..<offset + bytes.count, with: bytes)
        let path = "\(scratch.path)/image"
        try Data(image).write(to: URL(fileURLWithPath: path))
        #expect(ImageSignature.format(of: path) == name)
        // The same bytes elsewhere are a guest's own business.
        try Data([UInt8](repeating: 1, count: 1) + image).write(to: URL(fileURLWithPath: path))
        #expect(ImageSignature.format(of: path) == (offset == 4096 - 512 ? "VHD" : nil))
    }

    @Test("short files, holes, directories and what is not there look like nothing")
    func nothing() throws {
        let scratch = try TemporaryDirectory()
        for bytes in [[], [0x51, 0x46, 0x49], [UInt8](repeating: 0, count: 1024)] as [[UInt8]] {
            try Data(bytes).write(to: URL(fileURLWithPath: "\(scratch.path)/image"))
            #expect(ImageSignature.format(of: "\(scratch.path)/image") == nil)
        }
        for path in [scratch.path, "\(scratch.path)/none", "/dev/null"] { #expect(ImageSignature.format(of: path) == nil) }
    }
}
