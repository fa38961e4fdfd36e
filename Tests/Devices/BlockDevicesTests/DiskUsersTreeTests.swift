// What the question of a disk's users makes of devices that a test host need not have: the kernel's files, written by
// hand.

@testable import BlockDevices
import Foundation
import Glibc
@testable import LinuxSystem
import Testing
import TestSupport

/// A /sys of the test's own.
private final class DeviceTree {
    let directory: TemporaryDirectory
    init() throws { directory = try TemporaryDirectory() }

    private func put(_ text: String, _ path: String) throws {
        let url = URL(fileURLWithPath: "\(directory.path)/\(path)")
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: url)
    }

    private func link(_ path: String, to target: String) throws {
        let url = URL(fileURLWithPath: "\(directory.path)/\(path)")
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(atPath: url.path, withDestinationPath: "\(directory.path)/\(target)")
    }

    /// A device called `name`; a partition lies in its disk's directory.
    func add(_ name: String, _ number: String, partOf disk: String? = nil, volume: String? = nil) throws {
        let place = disk.map { "devices/\($0)/\(name)" } ?? "devices/\(name)"
        try put("\(number)\n", "\(place)/dev")
        try put("MAJOR=0\nDEVNAME=\(name)\nDEVTYPE=disk\n", "\(place)/uevent")
        if disk != nil { try put("1\n", "\(place)/partition") }
        if let volume { try put("\(volume)\n", "\(place)/dm/name") }
        try link("dev/block/\(number)", to: place)
        if disk == nil { try link("block/\(name)", to: place) }
    }

    /// Says that `upper` stands on `lower`; both by their places below devices.
    func stack(_ upper: String, on lower: String) throws {
        let names = (upper.split(separator: "/").last ?? "", lower.split(separator: "/").last ?? "")
        try link("devices/\(lower)/holders/\(names.0)", to: "devices/\(upper)")
        try link("devices/\(upper)/slaves/\(names.1)", to: "devices/\(lower)")
    }

    func btrfs(_ identifier: String, _ devices: [String]) throws {
        for device in devices { try link("fs/btrfs/\(identifier)/devices/\(device)", to: "devices/\(device)") }
    }

    /// Who has the device of this number.
    func holder(_ number: String, writes: Bool = true, mounts: String = "", swaps: String = "") throws -> String? {
        var users = DiskUsers(
            writes: writes, topology: BlockTopology(sys: directory.path, dev: "/nowhere"),
            table: MountTable(mountinfo: mounts, swaps: "Filename Type\n" + swaps))
        return users.holder(of: try #require(DeviceHalves(text: number)), "disk")?.describe(for: "disk")
    }
}

struct DiskUsersTreeTests {
    @Test("volumes and arrays on a device, its partitions and its disk are named, and their mounts before them")
    func volumes() throws {
        let tree = try DeviceTree()
        try tree.add("sda", "8:0")
        try tree.add("sda1", "8:1", partOf: "sda")
        try tree.add("sda2", "8:2", partOf: "sda")
        try tree.add("dm-0", "253:0", volume: "vg-root")
        try tree.stack("dm-0", on: "sda/sda2")
        #expect(try tree.holder("8:0") == "/nowhere/sda2 is part of /nowhere/dm-0 (vg-root)")
        #expect(try tree.holder("8:2") == "/nowhere/sda2 is part of /nowhere/dm-0 (vg-root)")
        #expect(try tree.holder("8:1") == nil && tree.holder("253:0") == nil)
        #expect(try tree.holder("8:0", writes: false) == nil, "who reads a volume's disk disturbs nobody")
        let mount = "36 35 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw\n"
        for number in ["8:0", "8:2"] {
            #expect(try tree.holder(number, mounts: mount) == "/nowhere/dm-0 is mounted at /")
            #expect(try tree.holder(number, writes: false, mounts: mount) == "/nowhere/dm-0 is mounted at /")
            #expect(try tree.holder(number, writes: false, mounts: mount.replacing(" rw\n", with: " ro\n")) == nil)
        }
        #expect(try tree.holder("253:0", mounts: mount) == "mounted at /")
        #expect(try tree.holder("8:1", mounts: mount) == nil, "what is beside a partition is not it")
    }

    @Test("a whole disk that is an array's member: its partitions are the array's bytes, too")
    func arrayOfDisks() throws {
        let tree = try DeviceTree()
        try tree.add("sdb", "8:16")
        try tree.add("sdb1", "8:17", partOf: "sdb")
        try tree.add("md0", "9:0")
        try tree.stack("md0", on: "sdb")
        #expect(try tree.holder("8:16") == "/nowhere/sdb is part of /nowhere/md0")
        #expect(try tree.holder("8:17") == "/nowhere/sdb is part of /nowhere/md0")
        #expect(try tree.holder("9:0") == nil)
    }

    @Test("a btrfs file system's mount names one of its devices and none by number; all are in use")
    func btrfs() throws {
        let tree = try DeviceTree()
        try tree.add("sdc", "8:32")
        try tree.add("sdd", "8:48")
        try tree.add("sde", "8:64")
        try tree.btrfs("0b7e-11", ["sdc", "sdd"])
        for number in ["8:32", "8:48"] {
            #expect(try tree.holder(number) == "a device of the btrfs file system 0b7e-11")
        }
        #expect(try tree.holder("8:64") == nil)
    }

    @Test("a swap file by another of its names")
    func swapFile() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.file(byteCount: 4096)
        try FileManager.default.linkItem(atPath: path, toPath: "\(path).swap")
        let file = try Descriptor.openForQuestions(path)
        for (swaps, expected) in [("Filename\n\(path).swap file 1 0 -2\n", "swap space"), ("Filename\n", nil)] {
            var users = DiskUsers(
                writes: true, topology: BlockTopology(sys: directory.path), table: MountTable(mountinfo: "", swaps: swaps))
            #expect(users.holder(of: file, path)?.describe(for: path) == expected)
        }
    }

    @Test("a mount's line: optional fields, blanks in a place, the super block's word on writing")
    func mountLines() throws {
        let line = #"36 35 98:0 /mnt1 /a\040b\134c ro,noatime master:1 shared:2 - ext3 /dev/root\040x rw,errors=continue"#
        let mount = try #require(Mount(line: line[...]))
        #expect(mount.device == DeviceHalves(text: "98:0") && mount.place == #"/a b\c"# && mount.source == "/dev/root x")
        #expect(mount.isWritable)
        #expect(Mount(line: "36 35 98:0 / /x rw - ext4 /dev/sda ro")?.isWritable == false)
        for bad in ["", "36 35", "36 35 98:0 / /x rw shared:1 ext4 /dev/sda rw", "36 35 x:0 / /x rw - ext4 /dev/sda rw"] {
            #expect(Mount(line: bad[...]) == nil, "\(bad)")
        }
        let table = MountTable(
            mountinfo: "",
            swaps: "Filename\t\t\t\tType\t\tSize\n/dev/sda3                               partition\t1 0 -2\n/a\\040b file 1 0 -3\n"
        )
        #expect(table.swaps == ["/dev/sda3", "/a b"])
    }

    @Test("a descriptor's lines: how it is open, and whether it is locked")
    func openFiles() {
        let plain = OpenFile(process: 7, number: 3, information: "pos:\t0\nflags:\t0100002\nmnt_id:\t29\n")
        #expect(plain.isWritable && !plain.isLocked)
        let locked = OpenFile(
            process: 7, number: 3, information: "pos:\t0\nflags:\t02000000\nlock:\t1: OFDLCK  ADVISORY  READ -1 00:1f:12 100 100\n")
        #expect(!locked.isWritable && locked.isLocked)
    }
}
