// A disk is opened only if nobody else has its bytes, by whatever way, and whoever has them is named.

@testable import BlockDevices
import Foundation
import Glibc
@testable import LinuxSystem
import Testing
import TestSupport

/// A file with an ext4 file system, on a loop device or not.
private final class Image {
    let path: String
    let directory: TemporaryDirectory
    private(set) var loop: String?
    private(set) var mountPoint: String?

    init(formatted: Bool = true) throws {
        directory = try TemporaryDirectory()
        path = try directory.file("a.img", byteCount: 16 << 20)
        if formatted { try command("mkfs.ext4", "-q", path) }
    }

    @discardableResult func attach(_ options: String...) throws -> String {
        let device = try command("sh", "-c", "losetup \(options.joined(separator: " ")) --find --show '\(path)'")
        loop = device
        return device
    }

    func mount(_ options: String = "rw") throws -> String {
        let place = "\(directory.path)/a mount"
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        try command("mount", "-o", options, try #require(loop), place)
        mountPoint = place
        return place
    }

    deinit {
        if let mountPoint { _ = try? command("umount", mountPoint) }
        if let loop { _ = try? command("losetup", "-d", loop) }
    }
}

/// Why `path` cannot be opened; empty: it can.
private func refusal(_ path: String, readOnly: Bool = false, sharing: DeviceSharing = .exclusive) -> String {
    do throws(DeviceError) {
        _ = try FileDisk(path: path, readOnly: readOnly, sharing: sharing)
        return ""
    } catch { return error.description }
}

private let hint = " (mode w! attaches it nevertheless)"

@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: canUseLoopDevices, "needs root and loop devices"))
struct DiskUsersTests {
    @Test("the file of a mounted loop device, by each of its names, and the device; read-only mounts may be read")
    func mountedLoop() throws {
        let image = try Image()
        let loop = try image.attach()
        #expect(refusal(image.path) == "" && refusal(loop) == "", "a loop device that nobody uses is in nobody's way")
        let place = try image.mount()
        let (hard, soft) = ("\(image.directory.path)/hard.img", "\(image.directory.path)/soft.img")
        try FileManager.default.linkItem(atPath: image.path, toPath: hard)
        try FileManager.default.createSymbolicLink(atPath: soft, withDestinationPath: image.path)
        for path in [image.path, hard, soft] {
            #expect(refusal(path) == "\(path): in use: \(loop) is mounted at \(place)\(hint)")
            #expect(refusal(path, readOnly: true) == "\(path): in use: \(loop) is mounted at \(place)")
        }
        #expect(refusal(loop) == "\(loop): in use: mounted at \(place)\(hint)")
        #expect(refusal(loop, readOnly: true) == "\(loop): in use: mounted at \(place)")
        #expect(refusal(image.path, sharing: .shared) == "" && refusal(loop, sharing: .shared) == "")
        try command("mount", "-o", "remount,ro", place)
        #expect(refusal(image.path).contains("mounted at") && refusal(image.path, readOnly: true) == "")
        #expect(refusal(loop, readOnly: true) == "")
        try command("umount", place)
        #expect(refusal(image.path) == "" && refusal(loop) == "")
    }

    @Test("a mount in another mount namespace, where no table here shows it")
    func otherNamespace() throws {
        let image = try Image()
        let loop = try image.attach()
        let holder = try Holder(
            ["unshare", "-m", "sh", "-c", "mount \(loop) \(image.directory.path) && echo ready && read x"])
        #expect(refusal(image.path).hasPrefix("\(image.path): in use: \(loop) is "), "\(refusal(image.path))")
        #expect(refusal(loop).hasPrefix("\(loop): in use: "), "\(refusal(loop))")
        holder.end()
        #expect(refusal(image.path) == "")
    }

    @Test("a second loop device on the same file, and a loop device on a loop device")
    func loopsOnLoops() throws {
        let image = try Image()
        let loop = try image.attach()
        let second = try command("losetup", "--find", "--show", image.path)
        defer { _ = try? command("losetup", "-d", second) }
        let place = try image.mount("ro")
        #expect(refusal(second) == "\(second): in use: \(loop) is mounted at \(place)\(hint)")
        try command("umount", place)
        let upper = try command("losetup", "--find", "--show", loop)
        defer { _ = try? command("losetup", "-d", upper) }
        try command("mount", upper, place)
        for path in [image.path, loop] {
            #expect(refusal(path) == "\(path): in use: \(upper) is mounted at \(place)\(hint)")
        }
        try command("umount", place)
    }

    @Test("partitions and whole disks, both ways, and the file below; what is beside a partition is not it")
    func partitions() throws {
        let image = try Image(formatted: false)
        let loop = try image.attachDivided()
        let (first, second) = ("\(loop)p1", "\(loop)p2")
        try command("mkfs.ext4", "-q", first)
        let place = "\(image.directory.path)/p1"
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        try command("mount", first, place)
        for path in [image.path, loop] {
            #expect(refusal(path) == "\(path): in use: \(first) is mounted at \(place)\(hint)")
            #expect(refusal(path, readOnly: true) == "\(path): in use: \(first) is mounted at \(place)")
        }
        #expect(refusal(first) == "\(first): in use: mounted at \(place)\(hint)")
        #expect(refusal(second) == "")
        try command("umount", place)
        do {
            let held = try FileDisk(path: second)
            #expect(refusal(first) == "")
            #expect(refusal(loop).hasPrefix("\(loop): in use: "))
            #expect(refusal(image.path).hasPrefix("\(image.path): in use: process \(getpid()) ("), "\(refusal(image.path))")
            withExtendedLifetime(held) {}
        }
        let whole = try FileDisk(path: loop)
        for path in [first, image.path] {
            #expect(refusal(path).contains("process \(getpid()) ("), "\(refusal(path))")
            #expect(refusal(path, readOnly: true).contains("process \(getpid()) ("), "\(refusal(path, readOnly: true))")
        }
        withExtendedLifetime(whole) {}
    }

    @Test("a loop device and its file are not two disks")
    func deviceAndFile() throws {
        let image = try Image(formatted: false)
        let loop = try image.attach()
        for (first, second) in [(loop, image.path), (image.path, loop)] {
            let held = try FileDisk(path: first)
            #expect(refusal(second).hasPrefix("\(second): in use: process \(getpid()) ("), "\(refusal(second))")
            #expect(refusal(second).contains(" has locked \(first)\(hint)"))
            #expect(refusal(second, readOnly: true).contains(" has locked \(first)"))
            withExtendedLifetime(held) {}
        }
        let read = try FileDisk(path: loop, readOnly: true)
        #expect(refusal(image.path, readOnly: true) == "" && refusal(image.path).contains("has locked \(loop)"))
        withExtendedLifetime(read) {}
    }

    @Test("swap space, as a file and as a loop device")
    func swap() throws {
        let image = try Image(formatted: false)
        // A swap file has no holes.
        try command("dd", "if=/dev/zero", "of=\(image.path)", "bs=1M", "count=4", "conv=fsync")
        try command("chmod", "600", image.path)
        let loop = try image.attach()
        try command("mkswap", loop)
        try command("swapon", loop)
        #expect(refusal(image.path) == "\(image.path): in use: \(loop) is swap space\(hint)")
        #expect(refusal(loop) == "\(loop): in use: swap space\(hint)")
        #expect(refusal(loop, readOnly: true) == "\(loop): in use: swap space")
        try command("swapoff", loop)
        #expect(refusal(image.path) == "" && refusal(loop) == "")
    }

    @Test("QEMU's locks and ours: each sees the other's, for reading and for writing")
    func qemu() throws {
        let image = try Image(formatted: false)
        do {
            // It prints a prompt.
            let writer = try Holder(["qemu-io", "-f", "raw", image.path])
            #expect(refusal(image.path).contains("(qemu-io -f raw \(image.path)) has locked it\(hint)"), "\(refusal(image.path))")
            #expect(refusal(image.path, readOnly: true).contains("(qemu-io -f raw \(image.path)) has locked it"))
            writer.end()
        }
        do {
            // What a guest with a read-only disk has: it reads (100), and lets nobody write (201).
            let locks = "for b in 100, 201: fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack('hhqqi', fcntl.F_RDLCK, 0, b, 1, 0))"
            let script = "import fcntl, struct; f = open('\(image.path)', 'rb')\n\(locks)\nprint('ready', flush=True)\ninput()"
            let guest = try Holder(["python3", "-c", script])
            #expect(refusal(image.path).contains("process \(guest.pid) ("), "\(refusal(image.path))")
            #expect(refusal(image.path, readOnly: true) == "")
            guest.end()
        }
        for readOnly in [false, true] {
            let ours = try FileDisk(path: image.path, readOnly: readOnly)
            #expect(throws: CommandFailed.self) { try command("qemu-io", "-f", "raw", "-c", "read 0 512", image.path) }
            withExtendedLifetime(ours) {}
        }
        let shared = try FileDisk(path: image.path, sharing: .shared)
        #expect(refusal(image.path, sharing: .shared) == "" && refusal(image.path).contains("has locked it"))
        withExtendedLifetime(shared) {}
    }

    @Test("a program that writes the file without a lock, and one that locks it as libvirt does or as a whole")
    func otherPrograms() throws {
        let image = try Image(formatted: false)
        let loop = try image.attach()
        let python = { (script: String) in
            try Holder([
                "python3", "-c", "import fcntl\nf = open('\(image.path)', 'r+b')\n\(script)\nprint('ready', flush=True)\ninput()",
            ])
        }
        do {
            let writer = try python("")
            for path in [image.path, loop] {
                #expect(refusal(path).hasPrefix("\(path): in use: process \(writer.pid) ("), "\(refusal(path))")
                #expect(refusal(path).hasSuffix(" open for writing\(hint)"))
                #expect(refusal(path, readOnly: true) == "")
            }
            writer.end()
        }
        for lock in ["fcntl.lockf(f, fcntl.LOCK_EX, 1, 0)", "fcntl.flock(f, fcntl.LOCK_EX)"] {
            let manager = try python(lock)
            for path in [image.path, loop] {
                #expect(refusal(path).contains("process \(manager.pid) ("), "\(lock): \(refusal(path))")
                #expect(refusal(path, readOnly: true).contains("process \(manager.pid) ("), "\(refusal(path, readOnly: true))")
            }
            manager.end()
        }
        #expect(refusal(image.path) == "" && refusal(loop) == "")
    }

    @Test("whoever has a block device's disk locked divides it, and is not disturbed; we keep that lock shared")
    func lockedWholeDisk() throws {
        let image = try Image(formatted: false)
        let loop = try image.attachDivided()
        let divider = try Holder(["flock", loop, "sh", "-c", "echo ready; read x"])
        for path in [loop, "\(loop)p1"] { #expect(refusal(path).contains(" has locked "), "\(refusal(path))") }
        divider.end()
        let disk = try FileDisk(path: "\(loop)p1")
        #expect(throws: CommandFailed.self) { try command("flock", "-n", loop, "true") }
        try command("flock", "-n", "-s", loop, "true")
        withExtendedLifetime(disk) {}
    }
}

extension Image {
    /// A loop device with two partitions of 4 MiB; not by a table, which the kernel may be unable to read.
    fileprivate func attachDivided() throws -> String {
        let loop = try attach("--partscan")
        for (number, start) in [(1, 2048), (2, 12288)] {
            try command("addpart", loop, "\(number)", "\(start)", "8192")
            try #require(eventually { access("\(loop)p\(number)", F_OK) == 0 }, "the partition has no node")
        }
        return loop
    }
}

/// A program that has something until it is ended: it has it once it has printed a line.
private final class Holder {
    private let process = Process()
    private let input = Pipe()
    private let output = Pipe()
    private var hasEnded = false
    var pid: Int32 { process.processIdentifier }

    init(_ arguments: [String]) throws {
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = arguments
        process.standardInput = input
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        guard !output.fileHandleForReading.availableData.isEmpty else { throw CommandFailed(text: "\(arguments): ended") }
    }

    /// Ends it by the end of its input, and waits for that.
    func end() {
        guard !hasEnded else { return }
        hasEnded = true
        try? input.fileHandleForWriting.close()
        process.waitUntilExit()
    }

    deinit { end() }
}
