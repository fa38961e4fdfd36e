// What an unprivileged domain may hold, and that it gets all of it back.

import Testing
@testable import XenStore
@testable import XenStoreServer
import XenTypes

@Suite struct QuotaTests {
    /// A bench with a home for domain 1, which owns it.
    static func bench(_ limits: StoreLimits = StoreLimits()) -> (CoreBench, host: CorePeer, guest: CorePeer) {
        let bench = CoreBench(limits)
        let host = bench.peer(0)
        bench.core.introduceDomain(DomainID(1))
        host.write("/local/domain/1")
        host.set("/local/domain/1", "n1")
        return (bench, host, bench.peer(1))
    }

    @Test(
        "XS6: by whichever way nodes come, the thousand-and-first is refused",
        arguments: ["write", "mkdir", "parents", "transaction"])
    func nodeQuota(_ way: String) {
        let (bench, host, guest) = Self.bench()
        let domain = DomainID(1)
        var last = Answer.done
        for index in 0..<2000 where last == .done {
            switch way {
            case "write": last = guest.write("a\(index)", "v")
            case "mkdir": last = guest.ask(.makeDirectory, ["a\(index)"])
            case "parents": last = guest.write("p\(index)/q/r", "v")
            default:
                let transaction = guest.begin()
                last = guest.write("a\(index)", "v", in: transaction)
                let ended = guest.end(transaction)
                if last == .done { last = ended }
            }
        }
        #expect(last == .error("ENOSPC"))
        // The home is the domain's first node; chains of three fill 999 others exactly.
        let reached = bench.core.usage(of: domain).nodes
        // The size of the home's list of children stops single names earlier than the count of nodes does.
        #expect(reached <= 1000)
        bench.expectSound()
        host.remove("/local/domain/1")
        #expect(bench.core.usage(of: domain).nodes == 0)
    }

    @Test("XS6: exactly a thousand nodes, counted whatever the order of making them")
    func exactlyAThousand() {
        let (bench, _, guest) = Self.bench()
        var made = 1
        for group in 0..<40 { for leaf in 0..<24 where guest.write("g\(group)/\(leaf)") == .done { made += leaf == 0 ? 2 : 1 } }
        #expect(made == 1000 && bench.core.usage(of: DomainID(1)).nodes == made)
        #expect(guest.write("x") == .error("ENOSPC"))
        #expect(guest.write("g0/0/x") == .error("ENOSPC"))
        #expect(guest.ask(.makeDirectory, ["y/z"]) == .error("ENOSPC"))
        let transaction = guest.begin()
        #expect(guest.write("x", in: transaction) == .error("ENOSPC"))
        #expect(guest.remove("g0/0", in: transaction) == .done)
        #expect(guest.write("x", in: transaction) == .done)
        #expect(guest.write("y", in: transaction) == .error("ENOSPC"))
        #expect(guest.end(transaction) == .done)
        #expect(guest.set("x", "n1", "r2") == .done)
        #expect(bench.core.usage(of: DomainID(1)).nodes == 1000)
        bench.expectSound()
    }

    @Test("XS6: a transaction's nodes are held against the quota again when it commits")
    func quotaAtCommit() {
        var limits = StoreLimits()
        limits.nodes = 5
        let (bench, _, guest) = Self.bench(limits)
        let (first, second) = (guest.begin(), guest.begin())
        for name in ["a", "b", "c", "d"] {
            #expect(guest.write("one/" + name, in: first) == (name == "d" ? .error("ENOSPC") : .done))
        }
        #expect(guest.write("two/x/y", in: second) == .done)
        #expect(guest.end(first) == .done)
        #expect([.error("EAGAIN"), .error("ENOSPC")].contains(guest.end(second)))
        #expect(bench.core.usage(of: DomainID(1)).nodes == 5)
        bench.expectSound()
    }

    @Test("XS24: two transactions that each delete all fifty nodes: the second meets a conflict, accounts hold")
    func deleteTwice() {
        let (bench, _, guest) = Self.bench()
        for index in 0..<50 { guest.write("n/\(index)") }
        let (first, second) = (guest.begin(), guest.begin())
        for index in 0..<50 {
            #expect(guest.remove("n/\(index)", in: first) == .done)
            #expect(guest.remove("n/\(index)", in: second) == .done)
        }
        #expect(guest.end(first) == .done)
        #expect(guest.end(second) == .error("EAGAIN"))
        #expect(bench.core.usage(of: DomainID(1)).nodes == 2)
        bench.expectSound()
    }

    @Test("XS22: nodes made and deleted in transactions leave no debt and no credit")
    func createAndDelete() {
        let (bench, _, guest) = Self.bench()
        let start = bench.core.usage(of: DomainID(1))
        for round in 0..<200 {
            let transaction = guest.begin()
            guest.write("x/y/z", "\(round)", in: transaction)
            guest.remove("x", in: transaction)
            guest.write("x/y", in: transaction)
            #expect(guest.end(transaction, commit: round % 3 != 0) == .done)
            guest.remove("x")
            #expect(bench.core.usage(of: DomainID(1)) == start)
        }
        bench.expectSound()
    }

    @Test("XS28: 128 watches, over all connections of a domain, special paths and other tokens included")
    func watchQuota() {
        let (bench, _, guest) = Self.bench()
        let second = bench.peer(1)
        for round in 0..<3 {
            for index in 0..<128 {
                let path = ["x", "/", "@releaseDomain", "/local"][index % 4]
                #expect((index % 2 == 0 ? guest : second).watch(path, "t\(index)") == .done, "round \(round)")
            }
            #expect(guest.watch("x", "more") == .error("E2BIG"))
            #expect(second.watch("@introduceDomain", "more") == .error("E2BIG"))
            #expect(guest.watch("x", "t0") == .error("EEXIST"))
            #expect(bench.core.usage(of: DomainID(1)).watches == 128)
            guest.ask(.resetWatches, [""])
            second.ask(.resetWatches, [""])
            #expect(bench.core.usage(of: DomainID(1)).watches == 0)
        }
        bench.expectSound()
    }

    @Test("XS12, XS28: watch, unwatch, reset and reconnect without end leave nothing behind")
    func watchAndReset() {
        let (bench, _, guest) = Self.bench()
        let start = bench.core.usage()
        for round in 0..<2000 {
            guest.watch("x", "t\(round)")
            guest.watch("@releaseDomain", "t\(round)")
            if round % 3 == 0 { guest.ask(.unwatch, ["x", "t\(round)"]) }
            if round % 5 == 4 { guest.ask(.resetWatches, [""]) }
            if round % 7 == 0 {
                let other = bench.peer(1)
                other.watch("x", "t")
                bench.core.disconnect(other.id)
            }
        }
        guest.ask(.resetWatches, [""])
        #expect(bench.core.usage() == start)
        #expect(bench.core.watches.byPath.isEmpty)
        bench.expectSound()
    }

    @Test("Ten transactions at once, over all connections of a domain; ended ones make room")
    func transactionQuota() {
        let (bench, host, guest) = Self.bench()
        let second = bench.peer(1)
        let open = (0..<10).map { ($0 % 2 == 0 ? guest : second).begin() }
        #expect(open.allSatisfy { $0 != 0 })
        #expect(guest.ask(.transactionStart, [""]) == .error("ENOSPC"))
        #expect(guest.end(open[0], commit: false) == .done)
        #expect(second.begin() != 0)
        bench.core.disconnect(second.id)
        #expect(bench.core.usage(of: DomainID(1)).transactions == 4)
        for _ in 0..<50 { #expect(host.begin() != 0) }
        bench.expectSound()
    }

    @Test("A transaction touches 1024 nodes at most, and can still commit what it did")
    func transactionNodes() {
        let (bench, host, guest) = Self.bench()
        host.set("/", "r0")
        let transaction = guest.begin()
        var refused: Answer?
        for index in 0..<1100 where refused == nil {
            let answer = guest.read("/nowhere\(index)", in: transaction)
            if answer != .error("ENOENT") { refused = answer }
        }
        #expect(refused == .error("ENOSPC"))
        #expect(guest.end(transaction) == .done)
        bench.expectSound()
    }

    @Test("A node is smaller than 2048 bytes, and has five permissions at most, for a guest")
    func nodeSize() {
        let (_, host, guest) = Self.bench()
        // 24 for the record, 8 for its one permission.
        #expect(guest.write("big", String(repeating: "x", count: 2015)) == .done)
        #expect(guest.write("big", String(repeating: "x", count: 2016)) == .error("ENOSPC"))
        #expect(guest.read("big").text.count == 2015)
        #expect(host.write("/big", String(repeating: "x", count: 4000)) == .done)
        #expect(guest.write("small") == .done)
        #expect(guest.set("small", "n1", "r0", "r0", "r0", "r0") == .done)
        #expect(guest.set("small", "n1", "r0", "r0", "r0", "r0", "r0") == .error("ENOSPC"))
    }

    @Test("XS11: fat nodes in many transactions, unread replies and events: memory stays under its caps")
    func memory() {
        let (bench, host, guest) = Self.bench()
        let limits = bench.core.limits
        for index in 0..<60 { guest.write("fat\(index)", String(repeating: "x", count: 1990)) }
        let transactions = (0..<10).map { _ in guest.begin() }
        var refused = false
        for transaction in transactions {
            for index in 0..<60 {
                if guest.write("fat\(index)", String(repeating: "y", count: 2000), in: transaction) != .done { refused = true }
            }
            for index in 0..<300 where guest.write("new\(index)/n", String(repeating: "z", count: 2000), in: transaction) != .done {
                refused = true
            }
        }
        #expect(refused)
        #expect(bench.core.usage(of: DomainID(1)).memory <= limits.memory)
        // Requests whose replies nobody reads: they wait, and stop being read.
        for _ in 0..<500 where bench.core.wantsInput(guest.id) {
            guest.send(StoreMessage(.read, payload: wireStrings(["fat0"])).bytes)
        }
        #expect((bench.core.connections[guest.id]?.output.byteCount ?? 0) < limits.outputSoft + 8192)
        let wants = bench.core.wantsInput(guest.id)
        #expect(!wants)
        #expect(host.read("/local/domain/1/fat0") != .none)
        bench.expectSound()
        bench.core.domainDied(DomainID(1))
        #expect(bench.core.usage(of: DomainID(1)) == StoreUsage())
    }

    @Test("XS30: events that a guest never reads: each waits once; too many different ones, and it is dropped, not the others")
    func slowReader() {
        let (bench, host, guest) = Self.bench()
        let reader = bench.peer(1)
        reader.watch("x", "t")
        guest.watch("x", "t")
        _ = reader.takeEvents()
        for round in 0..<10_000 { guest.write("x", "\(round)") }
        #expect(reader.takeEvents() == [WatchEvent(path: "x", token: "t")])
        for index in 0..<128 - 2 { reader.watch("x", String(repeating: "t", count: 1000) + "\(index)") }
        _ = reader.takeEvents()
        var rounds = 0
        while reader.isConnected && rounds < 100_000 {
            guest.write("x/\(rounds)")
            guest.remove("x/\(rounds)")
            guest.receive()
            rounds += 1
        }
        #expect(!reader.isConnected && guest.isConnected)
        #expect(host.read("/local/domain/1/x") == .value("9999"))
        bench.expectSound()
    }

    @Test("XS26: a domain that died with all its nodes returns with its whole quota")
    func quotaOfTheReborn() {
        var limits = StoreLimits()
        limits.nodes = 20
        let (bench, host, guest) = Self.bench(limits)
        for index in 0..<100 { guest.write("a\(index)") }
        #expect(bench.core.usage(of: DomainID(1)).nodes == 20)
        bench.core.domainDied(DomainID(1))
        #expect(bench.core.usage(of: DomainID(1)) == StoreUsage())
        host.write("/local/domain/1")
        host.set("/local/domain/1", "n1")
        let reborn = bench.peer(1)
        for index in 0..<19 { #expect(reborn.write("a\(index)") == .done) }
        #expect(reborn.write("b") == .error("ENOSPC"))
        bench.expectSound()
    }

    @Test("XS17: a hundred thousand failing requests leave the accounts as they were")
    func failingRequests() {
        let (bench, _, guest) = Self.bench()
        let start = bench.core.usage()
        for round in 0..<100_000 {
            switch round % 5 {
            case 0: guest.write("/no")
            case 1: guest.ask(.read, ["none"])
            case 2: guest.set("none", "n0")
            case 3: guest.end(9)
            default: guest.ask(.unwatch, ["x", "y"])
            }
        }
        #expect(bench.core.usage() == start)
        #expect(bench.core.connections[guest.id]?.output.isEmpty == true)
    }

    @Test("XS32: a hundred clients, 128 watches each on one hot path: every client one event for each, and no more waiting")
    func fanOut() {
        let bench = CoreBench()
        let host = bench.peer(0)
        host.write("/hot")
        host.set("/hot", "r0")
        let guests = (1...100).map { bench.peer($0) }
        for guest in guests { for token in 0..<128 { guest.watch("/hot", "\(token)") } }
        for guest in guests { #expect(guest.takeEvents().count == 128) }
        for round in 0..<5 { host.write("/hot", "\(round)") }
        for guest in guests { #expect(guest.takeEvents().count == 128) }
        for guest in guests { bench.core.disconnect(guest.id) }
        #expect(bench.core.usage().watches == 0)
        bench.expectSound()
    }
}
