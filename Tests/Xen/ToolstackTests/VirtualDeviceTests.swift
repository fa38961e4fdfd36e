import Testing
import TestSupport
import Toolstack

@Suite("xen-vbd-interface(7): names and numbers")
struct VirtualDeviceTests {
    @Test(
        "the manual's encodings",
        arguments: [
            ("xvda", 51712), ("d0", 51712), ("d0p0", 51712), ("xvda1", 51713), ("xvdb2", 51730), ("d1p2", 51730),
            ("xvdp15", 202 << 8 | 255), ("xvda16", 1 << 28 | 16), ("xvdq", 1 << 28 | 16 << 8),
            ("xvdaa", 1 << 28 | 26 << 8), ("xvdbgqcv", 1 << 28 | 0xFFFFF << 8),
            ("d536p37", 1 << 28 | 536 << 8 | 37), ("xvdtq37", 1 << 28 | 536 << 8 | 37), ("sda", 2048), ("sdb3", 2067),
            ("sdp15", 2303), ("hda", 768), ("hdb", 832), ("hdc", 5632), ("hdc2", 5634), ("hdd63", 5759),
            ("51712", 51712),
            ("0xca00", 51712), ("0145000", 51712), ("2147483647", 2_147_483_647), ("0", 0),
            ("d0x10p0x2", 1 << 28 | 16 << 8 | 2),
        ] as [(String, UInt32)])
    func known(_ name: String, _ number: UInt32) {
        #expect(VirtualDevice(name)?.number == number)
        #expect(VirtualDevice(name)?.name == name)
    }

    @Test(
        "what is no device",
        arguments: [
            "", "xvd", "xvda01", "xvda0", "xvda256", "sdq", "sda16", "hde", "hda64", "2147483648", "-1", "+1", "0x",
            "0x-1", "08",
            "d", "dp", "d0p", "d0p256", "d1048576", "xvdA", "xvdbgqcw", "xvda1x", "vda", "xvda ",
            "xvdaaaaaaaaaaaaaaaaa", "d-1",
            "d0p-1", "é",
        ])
    func unknown(_ name: String) { #expect(VirtualDevice(name) == nil) }

    @Test("a number's canonical name stands for the same number")
    func roundTrip() {
        var random = SplitMix(3)
        let interesting = (0..<70_000).map { UInt32($0) } + (0..<70_000).map { 1 << 28 | UInt32($0) }
        let others = (0..<100_000).map { _ in UInt32.random(in: 0...0x7FFF_FFFF, using: &random) }
        for number in interesting + others {
            guard let device = VirtualDevice(number: number) else {
                Issue.record("\(number) has no name")
                continue
            }
            if VirtualDevice(device.canonicalName)?.number != number { Issue.record("\(number) is called \(device)") }
        }
        #expect(VirtualDevice(number: 0x8000_0000) == nil)
        #expect(VirtualDevice(number: 51712)?.name == "xvda")
        #expect(VirtualDevice(number: 1 << 28 | 26 << 8)?.name == "xvdaa")
    }
}
