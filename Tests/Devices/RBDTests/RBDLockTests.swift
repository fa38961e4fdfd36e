import BlockDevices
import CFakeRBD
import DMA
import Foundation
import Glibc
@testable import LinuxSystem
@testable import RBD
import Testing
import TestSupport

/// All of them share the one library that is none.
@Suite(.serialized, .timeLimit(.minutes(1))) struct RBDTests {}

extension RBDTests {
    @Suite(.serialized) struct Lock {
        private func directory() throws -> String { try FileSystem.makeTemporaryDirectory("/tmp/rbd-record.") }

        private var owner: String { String(cString: fake_rbd_owner()) }

        @Test func L27_somebodyWhoLivesKeepsTheLock() throws {
            fake_rbd_begin(1 << 20)
            fake_rbd_lock("192.0.2.1:0/7", 1)
            do {
                _ = try openImage()
                Issue.record("two have the image")
            } catch {
                guard case .away(_, let reason) = error else { throw error }
                #expect(reason.hasPrefix("192.0.2.1:0/7 has its lock"))
            }
            #expect(owner == "192.0.2.1:0/7" && fake_rbd_broken() == 0)
            // Only looking is nobody's business.
            _ = try openImage(readOnly: true)
            _ = try openImage(shared: true)
            #expect(owner == "192.0.2.1:0/7")
        }

        @Test func whoeverTheClusterMissesLosesIt() throws {
            fake_rbd_begin(1 << 20)
            fake_rbd_lock("192.0.2.1:0/7", 0)
            let disk = try openImage()
            #expect(owner.hasPrefix("127.0.0.1:0/"))
            withExtendedLifetime(disk) {}
        }

        @Test func L27_aPredecessorOfTheRecordLosesItAtOnce() throws {
            let directory = try directory()
            defer { try? FileManager.default.removeItem(atPath: directory) }
            let own = RBDOptions(record: RBDLockRecord(directory: directory, name: "backend-0-vbd"))
            fake_rbd_begin(1 << 20)
            let log = Lines()
            // A killed one's life: it is never closed.
            let first = Unmanaged.passRetained(try openImage(own: own, log: log) as AnyObject)
            let left = owner
            RBDOwnAddresses.remove(left)
            let second = try openImage(own: own, log: log)
            #expect(owner != left && fake_rbd_broken() == 1 && fake_rbd_refused() == 1)
            #expect(log.lines.count == 1 && log.lines[0].contains("its lock is taken from a predecessor that was killed (\(left))"))
            // And no other: one that is in no record.
            fake_rbd_lock("192.0.2.1:0/7", 1)
            #expect(throws: DeviceError.self) { try openImage(own: own, log: log) }
            #expect(fake_rbd_broken() == 1 && owner == "192.0.2.1:0/7")
            withExtendedLifetime(second) {}
            first.release()
        }

        /// A kill between the record and the lock, or between a break and the lock, leaves a lock that the record
        /// knows.
        @Test func L27_theRecordHasAnAddressBeforeTheLockHas() throws {
            let directory = try directory()
            defer { try? FileManager.default.removeItem(atPath: directory) }
            let record = RBDLockRecord(directory: directory, name: "backend-0-vbd")
            try record.settle("a:0/1", of: "c/rbd:p/img")
            try record.settle("a:0/5", of: "c/rbd:p/other")
            try record.add("a:0/2", of: "c/rbd:p/img")
            try record.add("a:0/3", of: "c/rbd:p/img")
            for number in 1...3 { #expect(record.knows("a:0/\(number)", of: "c/rbd:p/img")) }
            #expect(!record.knows("a:0/5", of: "c/rbd:p/img") && record.knows("a:0/5", of: "c/rbd:p/other"))
            try record.settle("a:0/3", of: "c/rbd:p/img")
            #expect(!record.knows("a:0/1", of: "c/rbd:p/img") && record.knows("a:0/3", of: "c/rbd:p/img"))
            for number in 10..<100 { try record.add("a:0/\(number)", of: "c/rbd:p/img") }
            #expect(!record.knows("a:0/20", of: "c/rbd:p/img") && record.knows("a:0/99", of: "c/rbd:p/img"))
        }

        /// Else who tries again and again would lose sight of whoever left the lock.
        @Test func L27_whoIsRefusedLeavesNoAddressInTheRecord() throws {
            let directory = try directory()
            defer { try? FileManager.default.removeItem(atPath: directory) }
            let record = RBDLockRecord(directory: directory, name: "backend-0-vbd")
            fake_rbd_begin(1 << 20)
            fake_rbd_lock("192.0.2.1:0/7", 1)
            try record.settle("192.0.2.1:0/6", of: "cluster/rbd:p/img")
            let before = FileSystem.text(of: directory + "/backend-0-vbd.rbd")
            for _ in 0..<20 { #expect(throws: DeviceError.self) { try openImage(own: RBDOptions(record: record)) } }
            #expect(FileSystem.text(of: directory + "/backend-0-vbd.rbd") == before)
            #expect(before?.contains("192.0.2.1:0/6") == true)
        }

        @Test func L27_anotherDiskOfTheSameProcessIsNoPredecessor() throws {
            let directory = try directory()
            defer { try? FileManager.default.removeItem(atPath: directory) }
            let own = RBDOptions(record: RBDLockRecord(directory: directory, name: "backend-0-vbd"), takesOver: true)
            fake_rbd_begin(1 << 20)
            let first = try openImage(own: own)
            #expect(throws: DeviceError.cluster(name: "rbd:p/img", reason: "another disk of this process has it", .busy)) {
                try openImage(own: own)
            }
            #expect(fake_rbd_broken() == 0)
            withExtendedLifetime(first) {}
        }

        @Test func L26_whoIsToldToTakesItOver() throws {
            fake_rbd_begin(1 << 20)
            fake_rbd_lock("192.0.2.1:0/7", 1)
            let log = Lines()
            let disk = try openImage(own: RBDOptions(takesOver: true), log: log)
            #expect(fake_rbd_broken() == 1 && fake_rbd_refused() == 1)
            #expect(log.lines == ["rbd:p/img: it is taken over from 192.0.2.1:0/7, from whom the cluster takes nothing any more"])
            withExtendedLifetime(disk) {}
        }

        @Test(
            "L26: whoever has lost the lock does nothing any more, whatever the cluster says later", arguments: [ESHUTDOWN, EROFS])
        func L26_whoeverIsFencedDoesNothing(_ number: Int32) throws {
            fake_rbd_begin(1 << 20)
            let log = Lines()
            let harness = try RBDHarness(try openImage(log: log))
            defer { harness.close() }
            fake_rbd_hold(1)
            let tags = (0..<4).map { harness.begin(.write(offset: UInt64($0) * 4096), [harness.segment(0, 4096)]) }
            fake_rbd_fail(number)
            fake_rbd_hold(0)
            for tag in tags { #expect(try harness.wait(tag) == .failed(.ioError)) }
            fake_rbd_fail(0)
            harness.region.fill(0, count: 4096, with: 0x77)
            #expect(try harness.perform(.write(offset: 0), [harness.segment(0, 4096)]) == .failed(.ioError))
            #expect(try harness.perform(.read(offset: 0), [harness.segment(0, 4096)]) == .failed(.ioError))
            #expect(fake_rbd_byte(0) == 0 && log.lines.count == 1)
            #expect(log.lines[0].contains("another client has its lock now"))
        }
    }
}
