// The client against the server, over real sockets: every verb once, as its users use it.

import LinuxSystem
import Testing
@testable import XenStore
@testable import XenStoreServer
import XenTypes

@Suite(.serialized, .timeLimit(.minutes(1))) struct ClientServerTests {
    let server = StoreServer(time: .system)
    let host: StoreClient

    init() throws {
        try server.start()
        host = try server.connectInProcess(domain: .zero)
    }

    @Test func verbsOutsideATransaction() throws {
        try host.write("/a/b/c", "value")
        #expect(try host.read("/a/b/c") == "value")
        #expect(try host.read("/a") == "")
        try host.makeDirectory("/a/d")
        #expect(try host.directory("/a") == ["b", "d"])
        try host.setPermissions("/a/d", [StorePermission(.none, .zero), StorePermission(.read, DomainID(3))])
        #expect(try host.permissions("/a/d").map(\.wire) == ["n0", "r3"])
        #expect(try host.exists("/a/b"))
        try host.remove("/a")
        #expect(try host.value("/a/b/c") == nil)
        #expect(throws: StoreError.refused("ENOENT", path: "/a/b/c")) { try host.read("/a/b/c") }
        #expect(server.checkInvariants() == [])
    }

    @Test func aTransactionIsSeenWhenItCommits() throws {
        let other = try server.connectInProcess(domain: .zero)
        try host.transaction { transaction throws(StoreError) in
            try transaction.write("/t/x", "1")
            let outside = try other.value("/t/x")
            #expect(outside == nil)
            let inside = try transaction.read("/t/x")
            #expect(inside == "1")
        }
        #expect(try other.read("/t/x") == "1")
        #expect(server.usage().transactions == 0)
    }

    @Test func anErrorAbortsTheTransactionAndIsRethrown() throws {
        #expect(throws: StoreError.refused("ENOENT", path: "/missing")) {
            try host.transaction { transaction throws(StoreError) in
                try transaction.write("/t/x", "1")
                _ = try transaction.read("/missing")
            }
        }
        #expect(try host.exists("/t/x") == false)
        #expect(server.usage().transactions == 0)
    }

    @Test func aConflictIsTriedAgain() throws {
        let other = try server.connectInProcess(domain: .zero)
        try host.write("/n", "0")
        var rounds = 0
        try host.transaction { transaction throws(StoreError) in
            let old = try transaction.read("/n")
            if rounds < 3 { try other.write("/n", "\(rounds + 1)") }
            rounds += 1
            try transaction.write("/n", old + "!")
        }
        #expect(rounds == 4)
        #expect(try host.read("/n") == "3!")
    }

    @Test("D12, XS4: a peer that makes every transaction fail: attempts are bounded, and one transaction is open at most")
    func conflictsAreBounded() throws {
        let other = try server.connectInProcess(domain: .zero)
        try host.write("/n", "0")
        var rounds = 0
        #expect(throws: StoreError.conflict(attempts: 5)) {
            try host.transaction(attempts: 5) { transaction throws(StoreError) in
                _ = try transaction.read("/n")
                rounds += 1
                try other.write("/n", "\(rounds)")
                #expect(server.usage().transactions == 1)
            }
        }
        #expect(rounds == 5)
    }

    @Test func watchesFireOnceAtOnceAndThenOnChange() throws {
        try host.watch("/w", token: "t")
        #expect(try host.nextEvent(milliseconds: 5000) == WatchEvent(path: "/w", token: "t"))
        #expect(try host.nextEvent(milliseconds: 20) == nil)
        try host.write("/w/x", "1")
        #expect(try host.nextEvent(milliseconds: 5000) == WatchEvent(path: "/w/x", token: "t"))
        try host.remove("/w")
        #expect(try host.nextEvent(milliseconds: 5000) == WatchEvent(path: "/w", token: "t"))
        try host.unwatch("/w", token: "t")
        try host.write("/w/x", "2")
        #expect(try host.nextEvent(milliseconds: 20) == nil)
        #expect(throws: StoreError.refused("ENOENT", path: "/w")) { try host.unwatch("/w", token: "t") }
    }

    @Test func aDomainsPathsAreRelativeToItsHome() throws {
        let five = DomainID(5)
        try host.write("/local/domain/5/device", "")
        try host.setPermissions("/local/domain/5/device", [StorePermission(.none, five)])
        let guest = try server.connectInProcess(domain: five)
        try guest.watch("device", token: "t")
        #expect(try guest.nextEvent(milliseconds: 5000) == WatchEvent(path: "device", token: "t"))
        try guest.write("device/vbd/state", "1")
        #expect(try host.read("/local/domain/5/device/vbd/state") == "1")
        #expect(try guest.nextEvent(milliseconds: 5000) == WatchEvent(path: "device/vbd/state", token: "t"))
        #expect(try guest.domainPath(five) == "/local/domain/5")
        #expect(server.usage(of: five).nodes == 3)
    }

    @Test func introductionAndReleaseAreAnnounced() throws {
        let seven = DomainID(7)
        try host.watch("@introduceDomain", token: "i")
        try host.watch("@releaseDomain", token: "r")
        #expect(try host.nextEvent(milliseconds: 5000)?.token == "i")
        #expect(try host.nextEvent(milliseconds: 5000)?.token == "r")
        #expect(try host.isIntroduced(seven) == false)
        try host.introduce(seven, frame: 1, port: EventPort(1))
        #expect(try host.nextEvent(milliseconds: 5000) == WatchEvent(path: "@introduceDomain", token: "i"))
        #expect(try host.isIntroduced(seven))
        try host.release(seven)
        #expect(try host.nextEvent(milliseconds: 5000) == WatchEvent(path: "@releaseDomain", token: "r"))
        #expect(try host.isIntroduced(seven) == false)
    }

    @Test func wakeEndsAWait() async throws {
        let outcome = Elsewhere { try self.host.nextEvent(milliseconds: -1) }
        try await Task.sleep(for: .milliseconds(20))
        host.wake()
        #expect(try await outcome.value() == nil)
    }

    @Test func closingFreesWaitersAndTheServersAccounts() async throws {
        let outcome = Elsewhere { try self.host.nextEvent(milliseconds: -1) }
        try await Task.sleep(for: .milliseconds(20))
        host.close()
        await #expect(throws: StoreError.disconnected("closed")) { try await outcome.value() }
        #expect(throws: StoreError.disconnected("closed")) { try host.read("/") }
        try await eventually { server.usage().connections == 0 }
    }

    @Test func requestsFromManyThreads() async throws {
        let workers = (0..<4).map { worker in
            Elsewhere {
                try (0..<100).allSatisfy { round in
                    try self.host.write("/many/\(worker)", "\(round)")
                    return try self.host.read("/many/\(worker)") == "\(round)"
                }
            }
        }
        for worker in workers { #expect(try await worker.value()) }
        #expect(try host.directory("/many").count == 4)
    }

    @Test func listsLongerThanAMessageComeInParts() throws {
        let names = (0..<600).map { "a-rather-long-name-\($0)" }
        for name in names { try host.makeDirectory("/long/\(name)") }
        #expect(try host.directory("/long") == names)
        try host.transaction { transaction throws(StoreError) in
            let seen = try transaction.directory("/long")
            #expect(seen == names)
        }
    }
}
