// The code of Docs/guides/first-test.md, which is held to this file: what a page shows compiles and passes.

import BlockBackend
import BlockDevices
import BlockFrontend
import BlockProtocol
import DriverRuntime
import InProcess
import MockPeers
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenTypes

/// In here, so that who follows the guide may have a suite of that name.
enum Guide {
    @Suite struct FirstTests {
        @Test func whatWasWrittenIsRead() throws {
            let pair = try BlockPair()  // an image of 4 MiB, attached as xvda to domain 1
            let frontend = try pair.connect()
            var queue = try frontend.takeQueue(0)
            let bytes = pattern(8192, seed: 1)
            queue.buffer.write(bytes, at: 0)
            #expect(try queue.perform(.write, sector: 16, bufferOffset: 0, byteCount: 8192) == .okay)
            #expect(try queue.perform(.read, sector: 16, bufferOffset: 65536, byteCount: 8192) == .okay)
            #expect(queue.buffer.bytes(at: 65536, count: 8192) == bytes)
            frontend.close()
            pair.backend.stop()
        }

        @Test func aWriteToAReadOnlyDiskIsRefused() throws {
            let pair = try BlockPair(spec: ",raw,xvda,r")
            let raw = try MockBlockFrontend(pair)
            #expect(try raw.ask(raw.request(.write, sector: 8)) == .error)
            #expect(try raw.ask(raw.request(.read, sector: 8)) == .okay)
            try raw.close()
            pair.backend.stop()
        }

        @Test func aDiskOfOnesOwn() throws {
            let disk = NullDisk(byteCount: 1 << 30)
            let pair = try BlockPair(opener: { (_) throws(DeviceOpenFailure) in disk })
            let frontend = try pair.connect()
            #expect(frontend.properties?.sectors == 1 << 21)
            frontend.close()
            pair.backend.stop()
        }

        @Test func aDriverInAPackageOfItsOwn() throws {
            let host = InProcessHost(time: .system)
            let (driverDomain, guest) = (host.domain(0), host.domain(1))
            let paths = try DeviceDirectories(store: driverDomain.connectStore()).create(
                .init(try DiskSpecification(parsing: "/any,raw,xvda,w"), frontend: DomainID(1)))
            // Start your backend of `driverDomain` here; it serves `paths.backendPath`.
            let disk = NullDisk(byteCount: 1 << 20)
            let backend = try RunningBackend(TestHost(host), opener: { (_) throws(DeviceOpenFailure) in disk })
            let frontend = try MockBlockFrontend(guest, paths)
            let status = try frontend.ask(frontend.request(.read, sector: 0))
            #expect(status == .okay)
            try frontend.close()
            backend.stop()
        }
    }
}
