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
    @Suite(.serialized) struct Waiting {
        /// A page that was given back is its owner's.
        @Test func L25_aReadThatNobodyWaitsForTouchesNoPage() throws {
            fake_rbd_begin(1 << 20)
            let disk = try openImage()
            let first = try RBDHarness(disk)
            fake_rbd_hold(1)
            _ = first.begin(.read(offset: 0), [first.segment(0, 4096)])
            first.reactor.run {
                first.queue?.close()
                first.queue = nil
                #expect(first.bus.flightCount == 0)
            }
            first.region.fill(0, count: 4096, with: 0x55)
            // The next connection's queue takes back what the first one's had begun, and gives it to nobody.
            let second = try RBDHarness(disk)
            let tag = second.begin(.write(offset: 0), [second.segment(0, 4096)])
            fake_rbd_hold(0)
            #expect(try second.wait(tag) == .done)
            #expect(soon { fake_rbd_requests() == 0 })
            #expect(second.reactor.run { second.queue?.inFlight } == 0)
            #expect(second.reactor.run { second.queue?.statistics.writes } == 1)
            #expect((0..<4096).allSatisfy { first.region.load($0, as: UInt8.self) == 0x55 })
            first.close()
            second.close()
        }

        @Test func L25_whoIsGoingDoesNotWaitForACluster() throws {
            fake_rbd_begin(1 << 20)
            let harness = try RBDHarness(try openImage())
            defer { harness.close() }
            fake_rbd_hold(1)
            let tags = [
                harness.begin(.read(offset: 0), [harness.segment(0, 4096)]),
                harness.begin(.write(offset: 8192), [harness.segment(4096, 4096)]), harness.begin(.flush),
            ]
            harness.reactor.run { harness.queue?.endWaiting() }
            for tag in tags { #expect(try harness.wait(tag) == .failed(.canceled)) }
            #expect(harness.reactor.run { harness.bus.flightCount } == 0)
            fake_rbd_hold(0)
            #expect(soon { fake_rbd_requests() == 0 })
        }

        @Test func aClusterThatIsSlowIsWaitedFor() throws {
            fake_rbd_begin(1 << 20)
            let harness = try RBDHarness(try openImage())
            defer { harness.close() }
            fake_rbd_hold(1)
            let tag = harness.begin(.write(offset: 0), [harness.segment(0, 4096)])
            harness.reactor.run { harness.queue?.endWaiting() }
            Thread.sleep(forTimeInterval: 0.5)
            fake_rbd_hold(0)
            #expect(try harness.wait(tag) == .done)
        }

        @Test func L25_theLogSaysThatItIsAwayAndThatItIsBack() throws {
            fake_rbd_begin(1 << 20)
            let log = Lines()
            let harness = try RBDHarness(try openImage(log: log))
            defer { harness.close() }
            fake_rbd_hold(1)
            let tags = (0..<3).map { harness.begin(.read(offset: UInt64($0) * 4096), [harness.segment(0, 4096)]) }
            #expect(soon { !log.lines.isEmpty })
            #expect(log.lines == ["rbd:p/img: the cluster has not answered for 5 s; requests wait until it does"])
            fake_rbd_hold(0)
            for tag in tags { #expect(try harness.wait(tag) == .done) }
            #expect(log.lines.count == 2)
            #expect(log.lines[1].contains("answers again after") && log.lines[1].hasSuffix("3 requests waited"))
        }

        /// Its thread may not end before the cluster is back; whoever gave the disk up goes on.
        @Test func L25_anImageWithRequestsUnderWayClosesWhenTheyEnd() throws {
            fake_rbd_begin(1 << 20)
            let harness = try RBDHarness(try openImage())
            fake_rbd_hold(1)
            _ = harness.begin(.read(offset: 0), [harness.segment(0, 4096)])
            _ = harness.begin(.write(offset: 0), [harness.segment(0, 4096)])
            harness.close()
            Thread.sleep(forTimeInterval: 0.1)
            #expect(fake_rbd_images() == 1)
            fake_rbd_hold(0)
            #expect(soon { fake_rbd_images() == 0 && fake_rbd_requests() == 0 })
        }
    }
}
