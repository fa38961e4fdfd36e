// The server's sockets: peers that stall, lie or go while others are served; descriptors and counters at the end.

import Foundation
import Glibc
import LinuxSystem
import Testing
import XenWire

@testable import XenStore

@Suite(.serialized, .timeLimit(.minutes(1))) struct ServerSocketTests {
    let server = StoreServer()
    let host: StoreClient

    init() throws {
        try server.start()
        host = try server.connectInProcess(domain: .zero)
    }

    /// A raw connection of a domain, whose bytes the test writes itself.
    func raw(_ domain: UInt16) throws -> Descriptor {
        let (mine, theirs) = try StoreSockets.pair()
        server.attach(descriptor: theirs, domain: DomainID(domain))
        return mine
    }

    /// Sends without waiting, until the socket takes no more; the bytes sent.
    func flood(_ socket: Descriptor, _ bytes: [UInt8], times: Int) -> Int {
        var sent = 0
        for _ in 0..<times {
            guard let count = try? StoreSockets.send(socket.rawValue, bytes[...], wait: false), count == bytes.count else { break }
            sent += count
        }
        return sent
    }

    @Test("XS30: a guest that floods and never reads fills its own socket; others are served at their speed")
    func floodWithoutReading() throws {
        let guest = try raw(3)
        let request = StoreMessage(.getDomainPath, request: 1, payload: Array("3\0".utf8)).bytes
        for _ in 0..<20 {
            _ = flood(guest, request, times: 100_000)
            let start = StoreSockets.now()
            try host.write("/x", "1")
            #expect(StoreSockets.now() - start < 500_000_000)
        }
        #expect(flood(guest, request, times: 10) == 0)
        #expect(server.usage(of: DomainID(3)).connections == 1)
        server.domainDied(DomainID(3))
        #expect(try StoreSockets.receive(guest.rawValue, capacity: 10, wait: true).count == 10)
        #expect(server.usage(of: DomainID(3)) == StoreUsage())
    }

    @Test("XS30: one byte at a time is a request all the same")
    func byteByByte() throws {
        let guest = try raw(3)
        for byte in StoreMessage(.getDomainPath, request: 1, payload: Array("3\0".utf8)).bytes {
            #expect(try StoreSockets.send(guest.rawValue, [byte][...], wait: true) == 1)
        }
        let reply = try StoreSockets.receive(guest.rawValue, capacity: 4096, wait: true)
        #expect(reply.suffix(16).starts(with: Array("/local/domain/3".utf8)))
    }

    @Test("XS1: a connection that breaks the protocol is closed, and only it")
    func brokenProtocol() async throws {
        let guest = try raw(3)
        _ = try StoreSockets.send(guest.rawValue, [UInt8](repeating: 0xFF, count: 16)[...], wait: true)
        #expect(try StoreSockets.receive(guest.rawValue, capacity: 16, wait: true).isEmpty)
        #expect(try host.exists("/tool"))
        try await eventually { server.usage(of: DomainID(3)).connections == 0 }
    }

    @Test("XS31: clients that go in the middle of anything: counters and descriptors return to the baseline")
    func sudden() async throws {
        try host.write("/hot", "y")
        try host.setPermissions("/hot", [StorePermission(.both, .zero)])
        let (usage, descriptors) = (server.usage(), try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count)
        let script =
            StoreMessage(.watch, request: 1, payload: wireStrings(["/hot", "t"])).bytes
            + StoreMessage(.transactionStart, request: 2, payload: [0]).bytes
            + StoreMessage(.write, request: 3, transaction: 1, payload: Array("/hot\0x".utf8)).bytes
            + StoreMessage(.write, request: 4, payload: Array("/hot\0y".utf8)).bytes
        for cut in stride(from: 0, through: script.count, by: 3) {
            let guest = try raw(4)
            _ = try StoreSockets.send(guest.rawValue, script[..<cut], wait: true)
        }
        try await eventually { server.usage() == usage }
        #expect(server.checkInvariants() == [])
        try await eventually { try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count <= descriptors + 2 }
    }

    @Test("XS4: over sockets too, a toolstack's transaction commits within a second against a guest that only writes")
    func guestAgainstToolstack() async throws {
        let one = DomainID(1)
        try host.write("/local/domain/1/state", "0")
        try host.setPermissions("/local/domain/1/state", [StorePermission(.none, one)])
        let guest = try server.connectInProcess(domain: one)
        let flood = Elsewhere {
            do { while true { try guest.write("state", "x") } } catch StoreError.disconnected { return true }
        }
        for _ in 0..<3 {
            let start = StoreSockets.now()
            try host.transaction { transaction throws(StoreError) in
                let old = try transaction.read("/local/domain/1/state")
                StoreSockets.pause(milliseconds: 5)
                try transaction.write("/local/domain/1/copy", old)
            }
            #expect(StoreSockets.now() - start < 1_000_000_000)
        }
        server.domainDied(one)
        #expect(try await flood.value())
    }

    @Test func stoppingEndsClients() async throws {
        let waiter = Elsewhere { try self.host.nextEvent(milliseconds: -1) }
        try await Task.sleep(for: .milliseconds(20))
        server.stop()
        await #expect(throws: StoreError.disconnected("the server closed the connection")) { try await waiter.value() }
        server.stop()
    }

    @Test func aDomainThatIsDisconnectedKeepsItsNodes() async throws {
        let two = DomainID(2)
        try host.write("/local/domain/2/x", "kept")
        try host.setPermissions("/local/domain/2/x", [StorePermission(.none, two)])
        let first = try server.connectInProcess(domain: two)
        try first.watch("x", token: "t")
        server.disconnect(domain: two)
        try await eventually { (try? first.read("x")) == nil }
        #expect(server.usage(of: two).watches == 0)
        #expect(try server.connectInProcess(domain: two).read("x") == "kept")
    }
}
