import BlockDevices
import CFakeRBD
import DMA
import Foundation
import Glibc
@testable import LinuxSystem
@testable import RBD
import Testing
import TestSupport

extension RBDTests {
    @Suite(.serialized) struct Disk {
        private func withDisk(
            _ bytes: UInt64 = 4 << 20, readOnly: Bool = false, _ log: Lines = Lines(),
            _ body: (any BlockDevice, RBDHarness) throws -> Void
        ) throws {
            fake_rbd_begin(bytes)
            let disk = try openImage(readOnly: readOnly, log: log)
            let harness = try RBDHarness(disk)
            defer { harness.close() }
            try body(disk, harness)
        }

        @Test func whatIsWrittenIsReadThroughScatteredPages() throws {
            try withDisk { (disk, harness) throws in
                #expect(disk.geometry.byteCount == 4 << 20 && disk.geometry.canFlush && disk.geometry.writesDurably)
                #expect(disk.geometry.discard == DiscardLimits(granularity: 65536) && disk.queueLimit == 1)
                for page in 0..<8 { harness.region.fill(page * 4096, count: 4096, with: UInt8(page + 1)) }
                let backwards = (0..<8).reversed().map { harness.segment($0 * 4096, 4096) }
                #expect(try harness.perform(.write(offset: 8192), backwards) == .done)
                for page in 0..<8 { #expect(fake_rbd_byte(8192 + UInt64(page) * 4096) == UInt8(8 - page)) }
                #expect(try harness.perform(.flush) == .done)
                harness.region.fill(0, count: 64 * 4096, with: 0xEE)
                let scattered = (0..<8).map { harness.segment($0 * 8192 + 512, 4096) }
                #expect(try harness.perform(.read(offset: 8192), scattered) == .done)
                for page in 0..<8 { #expect(harness.region.load(page * 8192 + 512, as: UInt8.self) == UInt8(8 - page)) }
                #expect(harness.region.load(511, as: UInt8.self) == 0xEE && harness.region.load(4608, as: UInt8.self) == 0xEE)
                #expect(try harness.perform(.writeZeroes(offset: 8192, byteCount: 4096, mayUnmap: true)) == .done)
                #expect(fake_rbd_byte(8192) == 0 && fake_rbd_byte(12288) == 7)
                #expect(try harness.perform(.discard(offset: 0, byteCount: 65536, secure: false)) == .done)
                #expect(fake_rbd_byte(12288) == 0)
            }
        }

        @Test func manyInFlightComeBackEachOnce() throws {
            try withDisk { (_, harness) throws in
                fake_rbd_hold(1)
                let tags = (0..<200).map {
                    harness.begin(.write(offset: UInt64($0) * 4096), [harness.segment($0 % 64 * 4096, 4096)])
                }
                #expect(harness.reactor.run { harness.queue?.inFlight } == 200)
                #expect(tags.allSatisfy { harness.result($0) == nil })
                fake_rbd_hold(0)
                for tag in tags { #expect(try harness.wait(tag) == .done) }
                #expect(fake_rbd_requests() == 0)
            }
        }

        @Test(
            "an error of the cluster's reaches its request, and a quota is no room",
            arguments: [(EIO, EIO), (EDQUOT, ENOSPC), (ENOSPC, ENOSPC), (ETIMEDOUT, ETIMEDOUT)])
        func errors(_ theirs: Int32, _ ours: Int32) throws {
            try withDisk { (_, harness) throws in
                fake_rbd_fail(theirs)
                #expect(try harness.perform(.write(offset: 0), [harness.segment(0, 4096)]) == .failed(Errno(ours)))
                #expect(try harness.perform(.read(offset: 0), [harness.segment(0, 4096)]) == .failed(Errno(ours)))
                fake_rbd_fail(0)
                #expect(try harness.perform(.read(offset: 0), [harness.segment(0, 4096)]) == .done)
            }
        }

        @Test func aReadThatTheEndCutsIsAnError() throws {
            try withDisk { (_, harness) throws in
                fake_rbd_resize(4 << 20 - 2048, 0)
                #expect(try harness.perform(.read(offset: 4 << 20 - 4096), [harness.segment(0, 4096)]) == .failed(.ioError))
            }
        }

        @Test func aResizeIsSeen() throws {
            try withDisk(1 << 20) { (disk, harness) throws in
                #expect(try disk.refreshGeometry().byteCount == 1 << 20)
                fake_rbd_resize(2 << 20 + 100, 1)
                #expect(soon { (try? disk.refreshGeometry().byteCount) == 2 << 20 })
                #expect(disk.geometry.partSector == 100)
                #expect(try harness.perform(.write(offset: 2 << 20 - 512), [harness.segment(0, 512)]) == .done)
                #expect(try harness.perform(.write(offset: 2 << 20), [harness.segment(0, 512)]) == .failed(.invalidArgument))
            }
        }

        @Test func whatIsOnlyReadIsNotLockedOrWritten() throws {
            fake_rbd_begin(1 << 20)
            #expect(throws: DeviceError.readOnly(name: "rbd:p/img@snap")) { try openImage("rbd:p/img@snap") }
            let disk = try openImage("rbd:p/img@snap", readOnly: true)
            #expect(disk.geometry.isReadOnly && disk.geometry.discard == nil && !disk.geometry.canFlush)
            #expect(String(cString: fake_rbd_owner()) == "")
            let harness = try RBDHarness(disk)
            defer { harness.close() }
            #expect(try harness.perform(.write(offset: 0), [harness.segment(0, 512)]) == .failed(.readOnlyFileSystem))
            #expect(try harness.perform(.read(offset: 0), [harness.segment(0, 512)]) == .done)
        }

        @Test func whatItNeedsIsSetAndRequestsHaveNoTimeLimit() throws {
            try withDisk { (_, _) throws in
                func option(_ name: String) -> String { String(cString: fake_rbd_option(name)) }
                #expect(option("rbd_cache") == "false" && option("rbd_blocklist_on_break_lock") == "true")
                #expect(option("rbd_disable_zero_copy_writes") == "true" && option("client_mount_timeout") == "5")
                #expect(option("rados_osd_op_timeout") == "0" && option("rados_mon_op_timeout") == "0")
            }
        }

        @Test func theLastReferenceClosesTheImageAndGivesItsLockBack() throws {
            try withDisk { (disk, _) throws in #expect(fake_rbd_images() == 1 && String(cString: fake_rbd_owner()) != "") }
            #expect(soon { fake_rbd_images() == 0 })
            #expect(String(cString: fake_rbd_owner()) == "")
        }

        @Test(
            "why an image cannot be had is one sentence",
            arguments: [
                ("rbd:none/img", "rbd:none/img: the cluster has no pool none"),
                ("rbd:p/none", "rbd:p/none: there is no image none in pool p"),
                ("rbd:p/img:conf=/none", "rbd:p/img: the configuration /none cannot be read: No such file or directory"),
                ("rbd:p/img:none=1", "rbd:p/img: the option none is not taken: No such file or directory"),
                (
                    "rbd:p/plain",
                    "rbd:p/plain: the image has not the feature exclusive-lock: nothing keeps a second writer out (mode w! attaches it nevertheless)"
                ),
            ])
        func refusals(_ target: String, _ words: String) throws {
            fake_rbd_begin(1 << 20)
            do {
                _ = try openImage(target)
                Issue.record("\(target) was opened")
            } catch {
                #expect("\(error)" == words)
                if case .cluster = error {} else { Issue.record("\(error) may pass") }
            }
            #expect(soon { fake_rbd_images() == 0 })
        }

        @Test func aClusterThatDoesNotAnswerMayPass() throws {
            fake_rbd_begin(1 << 20)
            fake_rbd_refuse(ETIMEDOUT, 0)
            #expect(throws: DeviceError.away(name: "rbd:p/img", reason: "the cluster does not answer")) { try openImage() }
            fake_rbd_refuse(0, ETIMEDOUT)
            #expect(throws: DeviceError.away(name: "rbd:p/img", reason: "the cluster's OSDs do not answer")) { try openImage() }
            fake_rbd_refuse(0, 0)
            _ = try openImage()
        }
    }
}
