// What somebody else has is not attached, and it is said who that is.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("Disks that somebody has") struct InUse {
        @Test(
            "the file of a mounted loop device is refused by its mount, at once, and leaves nothing; w! takes it (needs root)",
            .enabled(if: Tools.hasLoopDevices))
        func mountedLoop() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 16)
            #expect(try RunningProcess.run(["mkfs.ext4", "-q", image], in: scratch).status == 0)
            let loop = try LoopDevice(on: image, in: scratch)
            let place = "\(scratch.path)/mnt"
            try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
            #expect(try RunningProcess.run(["mount", loop.path, place], in: scratch).status == 0)
            defer { _ = try? RunningProcess.run(["umount", place], in: scratch) }
            let start = ContinuousClock.now
            let refused = try pair(["\(image),raw,xvda,w"], command: ["true"], in: scratch, seconds: 30)
            #expect(refused.status == 1)
            #expect(refused.errors.contains("\(image): in use: \(loop.path) is mounted at \(place)"), "\(refused.errors)")
            #expect(refused.errors.contains("w!"), "\(refused.errors)")
            #expect(ContinuousClock.now - start < .seconds(10), "a mount does not end by itself")
            let meant = try pair(
                ["\(image),raw,xvda,w!"], command: ["sh", "-c", "nbdinfo --size \"$uri\""], in: scratch, seconds: 30)
            #expect(meant.status == 0 && meant.output.hasSuffix("\(16 << 20)\n"), "\(meant)")
        }

        @Test("an image that another pair writes is refused by its process; two that read have it")
        func otherPair() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 4)
            for (access, second, status) in [("w", "w", 1), ("w", "r", 1), ("r", "r", 0), ("r", "w", 1)]
                as [(String, String, Int32)]
            {
                let first = try PairUnderTest(disks: ["\(image),raw,xvda,\(access)"], in: scratch)
                let backend = try #require(first.processes(role: "backend").first)
                let other = try pair(["\(image),raw,xvda,\(second)"], command: ["true"], in: scratch, seconds: 40)
                #expect(other.status == status, "\(access), then \(second): \(other)")
                #expect(status == 0 || other.errors.contains("\(image): in use: process \(backend) ("), "\(other.errors)")
                #expect(first.stop()?.status == 0)
            }
        }

        @Test("a backend that is killed and its successor are not two: the disk is taken back, again and again")
        func successor() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 16)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], options: ["--journal"], in: scratch)
            for round in 1...5 {
                for backend in pair.processes(role: "backend") { kill(backend, SIGKILL) }
                let io = try pair.run(["qemu-io", "-f", "raw", pair.uri("xvda"), "-c", "write -P \(round) 0 1M"], seconds: 30)
                #expect(io.status == 0 && !io.output.contains("failed"), "\(io)")
            }
            #expect(!pair.running.errors.contains("in use"), "\(pair.running.errors)")
            #expect(pair.stop()?.status == 0)
        }

        @Test("QEMU does not open for writing what a pair has")
        func qemu() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 4)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            let other = try pair.run(["qemu-io", "-f", "raw", image, "-c", "write 0 512"])
            #expect(other.status != 0 && other.errors.contains("lock"), "\(other)")
            #expect(pair.stop()?.status == 0)
        }
    }
}
