// What is not done: nobody looks into a disk but its guest, or could write it where it may not be; and nobody spins for
// a peer that gets no processor.

import BlockBackend
import BlockDevices
import BlockFrontend
import BlockProtocol
import DriverRuntime
import Foundation
import LinuxSystem
import MockPeers
import ScriptedDevices
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(1))) struct QuietTests {
    /// Whatever a disk holds, the backend's process does not read it to find out what it is: nothing is asked of the
    /// disk from its attaching to its end but what the guest asked.
    @Test func TS7_nobodyReadsADiskButItsGuest() throws {
        let disk = ScriptedDisk { _ in .done }
        let pair = try BlockPair(opener: { _ throws(DeviceOpenFailure) in disk })
        let raw = try MockBlockFrontend(pair)
        sleepMilliseconds(50)
        #expect(disk.operations.isEmpty)
        #expect(try raw.ask(raw.request(.read, sector: 16)) == .okay)
        #expect(disk.operations == [.read(offset: 16 << 9)])
        try raw.close()
        pair.backend.stop()
        #expect(disk.operations == [.read(offset: 16 << 9)])
    }

    /// How this process has the file open, each time.
    private func accessModes(_ path: String) throws -> [Int32] {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").compactMap { entry in
            let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/" + entry)
            guard target == path, let number = Int32(entry) else { return nil }
            return fcntl(number, F_GETFL) & O_ACCMODE
        }
    }

    /// Not even a mistake of ours could write into it.
    @Test func A23_aReadOnlyDiskIsOpenForReadingOnly() throws {
        let scratch = try TemporaryDirectory()
        let path = try scratch.file(byteCount: 1 << 20)
        let real = try #require(realpath(path, nil).map { String(cString: $0) })
        let opener = HostDiskOpener(time: .system)
        for settings in [
            DiskSettings(target: path, isWritable: false), DiskSettings(target: path, isWritable: true, isCDROM: true),
        ] {
            let disk = try opener.open(settings)
            #expect(try accessModes(real) == [O_RDONLY])
            _ = disk
        }
        let disk = try opener.open(DiskSettings(target: path, isWritable: true))
        #expect(try accessModes(real) == [O_RDWR])
        _ = disk
    }

    /// Nanoseconds that this process has had a processor.
    private var processorTime: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    @Test func L23_aBackendThatGetsNoProcessorIsWaitedForAsleep() throws {
        try withMockBackend { backend, frontend in
            var queue = try frontend.takeQueue(0)
            _ = try queue.submit(.read, sector: 0, byteCount: 4096, tag: 5)
            queue.kick()
            let before = processorTime
            let end = monotonicMilliseconds() + 300
            while case let left = end - monotonicMilliseconds(), left > 0 { try queue.wait(milliseconds: Int32(left)) }
            #expect(queue.inFlight == 1)
            #expect(processorTime - before < 100_000_000)
            // It gets one after all.
            backend.answer([BlockResponse(id: 0, operation: .read, status: .okay)], produced: 1)
            #expect(try queue.waitForAll(milliseconds: 3000).map(\.outcome) == [.okay])
        }
    }
}
