// Lengths and depths of paths; transactions under attack.

import Testing
@testable import XenStore
@testable import XenStoreServer
import XenTypes

@Suite struct PathAndTransactionTests {
    @Test("XS8: a length has the same answer, absolute or relative; what was stored, the admin can read and delete")
    func lengths() {
        let (bench, host, guest) = QuotaTests.bench()
        for length in [1, 1000, 2047, 2048, 2049, 3071, 3072, 3073, 4000] {
            let name = String(repeating: "x", count: length)
            let absolute = "/local/domain/1/" + name
            for type in [.read, .directory, .getPermissions, .remove, .makeDirectory] as [StoreMessageType] {
                let answer = guest.ask(type, [name])
                #expect(answer == guest.ask(type, [absolute]), "\(type) \(length)")
                #expect((answer == .error("EINVAL")) == (length > 2048), "\(type) \(length)")
            }
            #expect(host.write(absolute) == (length <= 2048 ? .done : .error("EINVAL")))
            #expect(host.ask(.read, ["/local/domain/1/" + name]) == (length <= 2048 ? .value("") : .error("EINVAL")))
            if length <= 2048 { #expect(host.remove("/local/domain/1/" + name) == .done) }
            let elsewhere = "/" + String(repeating: "y", count: length - 1)
            if length > 1 { #expect(host.write(elsewhere) == (length <= 3072 ? .done : .error("EINVAL"))) }
            if length > 1 && length <= 3072 { #expect(host.remove(elsewhere) == .done) }
        }
        bench.expectSound()
    }

    @Test("XS19: 1500 levels: made, listed, watched, checked and deleted in a thread with a small stack")
    func depth() async throws {
        let faults = try await Elsewhere {
            let bench = CoreBench()
            let host = bench.peer(0)
            let path = String(repeating: "/d", count: 1500)
            host.watch("/")
            var seen: [Answer] = [host.write(path, "bottom"), host.read(path)]
            let transaction = host.begin()
            seen.append(host.write(path, "again", in: transaction))
            seen.append(host.end(transaction))
            seen.append(host.read(path + "/x/y"))
            seen.append(host.remove("/d"))
            let expected: [Answer] = [.done, .value("bottom"), .done, .done, .error("ENOENT"), .done]
            return bench.core.checkInvariants() + (seen == expected ? [] : ["\(seen)"])
        }.value()
        #expect(faults == [])
    }

    @Test(
        "XS25: every prefix of a valid path, and domain numbers that are none: an answer, never a stop",
        arguments: [
            "/local/domain/", "/local/domain//x", "/local/domain/99999999999/", "/local/domain/-1", "/local/domain/99999999999",
            "/local/domain/0x1", "/local/domain/65536/a", "/local/domain/1/", "/local/domain/1",
        ])
    func prefixes(_ path: String) {
        let bench = CoreBench()
        let host = bench.peer(0)
        let isMalformed = path.hasSuffix("/") || path.contains("//")
        #expect(host.read(path) == .error(isMalformed ? "EINVAL" : "ENOENT"))
        for end in path.indices {
            #expect([.error("EINVAL"), .error("ENOENT"), .value("")].contains(host.read(String(path[..<end]))))
            #expect([.error("EINVAL"), .done].contains(host.watch(String(path[..<end]))))
        }
        for number in ["", "99999999999", "-1", "0x1", "65536", "32752", " 1", "1 ", "+1"] {
            #expect(host.ask(.getDomainPath, [number]) == .error("EINVAL"))
            #expect(host.ask(.release, [number]) == .error("EINVAL"))
            #expect(host.set("/tool", "n" + number) == .error("EINVAL"))
        }
        bench.expectSound()
    }

    @Test("XS15, XS16: a creation that fails, at whichever step, leaves no node and no trace, in a transaction or outside")
    func failedCreation() {
        for limit in 1...6 {
            for inTransaction in [false, true] {
                var limits = StoreLimits()
                limits.nodes = limit
                let (bench, host, guest) = QuotaTests.bench(limits)
                let before = bench.core.tree.nodes
                let transaction = inTransaction ? guest.begin() : 0
                let fits = limit >= 5
                #expect(guest.write("a/b/c/d", "v", in: transaction) == (fits ? .done : .error("ENOSPC")))
                #expect(guest.write("e/f", String(repeating: "x", count: 3000), in: transaction) == .error("ENOSPC"))
                if inTransaction { #expect(guest.end(transaction) == .done) }
                if !fits { #expect(bench.core.tree.nodes == before) }
                bench.expectSound()
                #expect(host.remove("/local/domain/1") == .done)
                #expect(bench.core.usage(of: DomainID(1)).nodes == 0)
            }
        }
    }

    @Test("XS15, XS16: one that a transaction has no room left for leaves none of its nodes in it")
    func creationThatATransactionCannotHold() {
        for most in 2...10 {
            var limits = StoreLimits()
            limits.transactionNodes = most
            let (bench, _, guest) = QuotaTests.bench(limits)
            let transaction = guest.begin()
            let answer = guest.write("a/b/c/d", "v", in: transaction)
            // Its home, the four, and the first of them once more, where it was found missing.
            #expect(answer == (most >= 5 ? .done : .error("ENOSPC")), "room for \(most)")
            #expect(guest.end(transaction) == .done)
            #expect(guest.read("a/b/c/d") == (answer == .done ? .value("v") : .error("ENOENT")), "room for \(most)")
            #expect(bench.core.usage(of: DomainID(1)).nodes == (answer == .done ? 5 : 1), "room for \(most)")
            bench.expectSound()
        }
    }

    @Test(
        "XS27: every request in a transaction that is valid, stale, foreign or none; reset in the middle",
        arguments: StoreMessageType.allCases)
    func transactionNumbers(_ type: StoreMessageType) {
        let (bench, host, guest) = QuotaTests.bench()
        let (mine, foreign, stale) = (guest.begin(), host.begin(), guest.begin())
        guest.end(stale, commit: false)
        for transaction in [mine, foreign + 40, stale, 0, .max] {
            let open = guest.begin()
            guest.write("x", in: open)
            #expect(guest.ask(raw: type.rawValue, Array("x\0\0".utf8), in: transaction) != .none)
            #expect(guest.ask(raw: type.rawValue, wireStrings(["T"]), in: transaction) != .none)
            bench.expectSound()
        }
        #expect(guest.ask(raw: StoreMessageType.resetWatches.rawValue, [0], in: mine) == .done)
        #expect(guest.write("x", in: mine) == .error("ENOENT"))
        #expect(bench.core.usage(of: DomainID(1)).transactions == 0)
        #expect(host.read("/tool", in: foreign) == .value(""))
        bench.expectSound()
    }

    @Test func nestedTransactionsAreRefused() {
        let host = CoreBench().peer(0)
        let transaction = host.begin()
        #expect(host.ask(.transactionStart, [""], in: transaction) == .error("EBUSY"))
        #expect(host.end(0) == .error("ENOENT"))
        #expect(host.ask(.transactionEnd, ["X"], in: transaction) == .error("EINVAL"))
        #expect(host.end(transaction) == .done)
        #expect(host.end(transaction) == .error("ENOENT"))
    }

    @Test("XS4: a guest that writes without pause into what a toolstack's transactions read: they commit within a second")
    func guestAgainstToolstack() {
        let (bench, host, guest) = QuotaTests.bench()
        guest.write("state", "0")
        let start = bench.now
        var committed = 0
        while committed < 5 && bench.now - start < 5_000_000_000 {
            let transaction = host.begin()
            _ = host.read("/local/domain/1/state", in: transaction)
            // The toolstack takes thirty milliseconds; the guest writes in each.
            for _ in 0..<30 {
                bench.now += 1_000_000
                guest.send(StoreMessage(.write, request: 1, payload: Array("state\0x".utf8)).bytes)
                _ = bench.core.service(guest.id, now: bench.now)
                while guest.reply() != nil {}
            }
            if host.end(transaction) == .done { committed += 1 }
        }
        #expect(committed == 5)
        #expect(bench.now - start < 1_500_000_000)
        // Held, not cut off.
        bench.now += 1_000_000_000
        while bench.core.service(guest.id, now: bench.now) {}
        while guest.reply() != nil {}
        #expect(guest.isConnected)
        #expect(guest.write("state", "later") == .done)
    }

    @Test("A guest's transactions do not slow down another by reading what it writes")
    func guestAgainstGuest() {
        let (bench, host, guest) = QuotaTests.bench()
        guest.write("x")
        host.set("/local/domain/1/x", "r1")
        let reader = bench.peer(2)
        for _ in 0..<5 {
            let transaction = reader.begin()
            #expect(reader.read("/local/domain/1/x", in: transaction) == .value(""))
            #expect(guest.write("x") == .done)
            #expect(reader.end(transaction) == .error("EAGAIN"))
        }
        #expect(bench.core.nextDeadline(now: bench.now) == nil)
    }

    @Test("XS31: a client killed in the middle of a message, of a transaction, with events queued: all returns to the baseline")
    func killedInTheMiddle() {
        let (bench, _, guest) = QuotaTests.bench()
        guest.write("x")
        let start = bench.core.usage()
        let message = StoreMessage(.write, request: 1, payload: Array("x/y\0value".utf8)).bytes
        for cut in message.indices {
            let client = bench.peer(1)
            client.watch("x")
            let transaction = client.begin()
            client.write("x/z", in: transaction)
            guest.write("x", "\(cut)")
            guest.write("x", "")
            client.send(Array(message[..<cut]))
            bench.core.disconnect(client.id)
            #expect(bench.core.usage() == start)
        }
        bench.expectSound()
    }

    @Test func introducingAgainEndsWatchesAndTransactions() {
        let (bench, host, guest) = QuotaTests.bench()
        guest.watch("x")
        _ = guest.begin()
        #expect(host.ask(.introduce, ["1", "1", "1"]) == .done)
        #expect(bench.core.usage(of: DomainID(1)).watches == 0 && bench.core.usage(of: DomainID(1)).transactions == 0)
        #expect(guest.isConnected)
        bench.expectSound()
    }
}
