// The server's sockets: peers that stall, lie or go while others are served; descriptors and counters at the end.

import Foundation
import Glibc
import LinuxSystem
import TestSupport
import Testing
@testable import XenStore
@testable import XenStoreServer
import XenTypes

@Suite(.serialized, .timeLimit(.minutes(1))) struct ServerSocketTests {
    let server = StoreServer(time: .system)
    let host: StoreClient

    init() throws {
        try server.start()
        host = try server.connectInProcess(domain: .zero)
    }

    /// A raw connection of a domain, whose bytes the test writes itself.
    func raw(_ domain: UInt16) throws -> Descriptor {
        let (mine, theirs) = try StreamSocket.pair()
        server.attach(descriptor: theirs, domain: DomainID(domain))
        return mine
    }

    /// Sends without waiting, until the socket takes no more; the bytes sent.
    func flood(_ socket: Descriptor, _ bytes: [UInt8], times: Int) -> Int {
        var sent = 0
        for _ in 0..<times {
            guard let count = try? StreamSocket.send(socket.rawValue, bytes[...], wait: false), count == bytes.count else { break }
            sent += count
        }
        return sent
    }

    @Test("XS30: a guest that floods and never reads fills its own socket; others are served at their speed")
    func floodWithoutReading() async throws {
        let guest = try raw(3)
        let request = StoreMessage(.getDomainPath, request: 1, payload: Array("3\0".utf8)).bytes
        for _ in 0..<20 {
            _ = flood(guest, request, times: 100_000)
            let start = monotonicNanoseconds()
            try host.write("/x", "1")
            // Generous, for machines that run much else; a server that stalls would not answer at all.
            #expect(monotonicNanoseconds() - start < 3_000_000_000)
        }
        try await eventually { flood(guest, request, times: 100_000) == 0 }
        #expect(server.usage(of: DomainID(3)).connections == 1)
        server.domainDied(DomainID(3))
        #expect(try StreamSocket.receive(guest.rawValue, capacity: 10, wait: true).count == 10)
        #expect(server.usage(of: DomainID(3)) == StoreUsage())
    }

    @Test("XS30: one byte at a time is a request all the same")
    func byteByByte() throws {
        let guest = try raw(3)
        for byte in StoreMessage(.getDomainPath, request: 1, payload: Array("3\0".utf8)).bytes {
            #expect(try StreamSocket.send(guest.rawValue, [byte][...], wait: true) == 1)
        }
        let reply = try StreamSocket.receive(guest.rawValue, capacity: 4096, wait: true)
        #expect(reply.suffix(16).starts(with: Array("/local/domain/3".utf8)))
    }

    /// A socket of domain 3's own, below a directory that goes with the test.
    private func listen(user: UInt32?, most: Int = 8) throws -> (path: String, directory: TemporaryDirectory) {
        let directory = try TemporaryDirectory()
        let path = "\(directory.path)/xenstored.sock"
        try server.listen(onPath: path, domain: DomainID(3), user: user, mostConnections: most)
        return (path, directory)
    }

    @Test("XS36: a domain's socket is that domain's, for its user alone")
    func socketOfADomain() throws {
        let (path, directory) = try listen(user: geteuid() == 0 ? 4321 : nil)
        defer { withExtendedLifetime(directory) {} }
        // Whoever comes in is domain 3, root too.
        let client = try StoreClient(socketPath: path, time: .system)
        try host.makeDirectory("/local/domain/3/data")
        try host.setPermissions("/local/domain/3/data", [StorePermission(.none, DomainID(3))])
        try host.write("/secret", "domain 0's")
        try client.write("data/own", "1")
        #expect(try host.read("/local/domain/3/data/own") == "1")
        #expect(throws: StoreError.self) { _ = try client.read("/secret") }
        #expect(throws: StoreError.self) { try client.write("/elsewhere", "1") }
        let status = try FileSystem.status(of: path)
        #expect(status.st_mode & 0o777 == 0o600 && (geteuid() != 0 || status.st_uid == 4321))
        if geteuid() == 0 {
            // The kernel's word for who knocks.
            #expect(try reaches(path, as: 4321))
            #expect(try !reaches(path, as: 4322))
            // The same where the file keeps nobody out, as it is where it could not be given to the user.
            try FileSystem.setMode(of: path, to: 0o666)
            #expect(try reaches(path, as: 4321))
            #expect(try !reaches(path, as: 4322))
        }
        server.domainDied(DomainID(3))
        #expect(throws: StoreError.self) { _ = try client.read("data/own") }
        server.stopListening(onPath: path)
        #expect(!FileSystem.exists(path))
        #expect(throws: StoreError.self) { _ = try StoreClient(socketPath: path, time: .system) }
    }

    /// Whether a process of that user gets an answer there.
    private func reaches(_ path: String, as user: UInt32) throws -> Bool {
        try FileSystem.setMode(of: (path as NSString).deletingLastPathComponent, to: 0o755)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["setpriv", "--reuid", "\(user)", "--clear-groups", "xenstore-read", "domid"]
        process.environment = ["XENSTORED_PATH": path, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"]
        try host.write("/local/domain/3/domid", "3")
        try host.setPermissions("/local/domain/3/domid", [StorePermission(.none, .zero), StorePermission(.read, DomainID(3))])
        process.standardError = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        return process.terminationStatus == 0
    }

    @Test("XS36: connections of a domain are bounded, whichever way they came in")
    func boundedConnections() throws {
        let (path, directory) = try listen(user: nil, most: 3)
        defer { withExtendedLifetime(directory) {} }
        let handed = try raw(3)
        defer { withExtendedLifetime(handed) {} }
        var clients = [try StoreClient(socketPath: path, time: .system), try StoreClient(socketPath: path, time: .system)]
        for client in clients { _ = try? client.read("nothing") }
        #expect(server.usage(of: DomainID(3)).connections == 3)
        // The next is turned away, and the others do not notice.
        let fourth = try? StoreClient(socketPath: path, time: .system)
        #expect(throws: (any Error).self) { _ = try #require(fourth).read("nothing") }
        #expect(throws: StoreError.refused("EACCES", path: "nothing")) { _ = try clients[0].read("nothing") }
        try host.write("/x", "1")
        // One that goes leaves its place to another.
        clients[1].close()
        clients.removeLast()
        #expect(eventually(5000) { server.usage(of: DomainID(3)).connections == 2 })
        let again = try StoreClient(socketPath: path, time: .system)
        #expect(throws: StoreError.refused("EACCES", path: "nothing")) { _ = try again.read("nothing") }
        server.stopListening(onPath: path)
    }

    @Test("XS1: a connection that breaks the protocol is closed, and only it")
    func brokenProtocol() async throws {
        let guest = try raw(3)
        _ = try StreamSocket.send(guest.rawValue, [UInt8](repeating: 0xFF, count: 16)[...], wait: true)
        #expect(try StreamSocket.receive(guest.rawValue, capacity: 16, wait: true).isEmpty)
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
            _ = try StreamSocket.send(guest.rawValue, script[..<cut], wait: true)
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
            let start = monotonicNanoseconds()
            try host.transaction { transaction throws(StoreError) in
                let old = try transaction.read("/local/domain/1/state")
                sleepMilliseconds(5)
                try transaction.write("/local/domain/1/copy", old)
            }
            #expect(monotonicNanoseconds() - start < 1_000_000_000)
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
