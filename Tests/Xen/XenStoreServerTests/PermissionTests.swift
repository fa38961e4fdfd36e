// Who may see and do what; what a domain's death leaves to the next of its number.

import Testing
@testable import XenStore
@testable import XenStoreServer
import XenTypes

@Suite struct PermissionTests {
    @Test("XS3: no event of what a watcher may not read, in a transaction or outside; its own it hears of")
    func watchPermissions() {
        let (_, host, guest) = QuotaTests.bench()
        host.write("/secret/deep", "1")
        for path in ["/", "/local", "/secret", "/secret/deep", "/local/domain/2"] { #expect(guest.watch(path, path) == .done) }
        _ = guest.takeEvents()
        host.write("/secret/deep", "2")
        host.write("/secret/new")
        host.write("/local/domain/2/x")
        let transaction = host.begin()
        host.write("/secret/deep", "3", in: transaction)
        host.set("/secret/new", "n0", "r2", in: transaction)
        host.remove("/local/domain/2", in: transaction)
        host.end(transaction)
        host.remove("/secret")
        #expect(guest.takeEvents() == [])
        // Permissions that change are seen by whom they leave and by whom they reach.
        host.write("/local/domain/1/y")
        #expect(guest.takeEvents().map(\.token) == ["/", "/local"])
        host.write("/open")
        #expect(guest.takeEvents() == [])
        host.set("/open", "r0")
        #expect(guest.takeEvents() == [WatchEvent(path: "/open", token: "/")])
        let closing = host.begin()
        host.set("/open", "n0", in: closing)
        host.end(closing)
        #expect(guest.takeEvents() == [WatchEvent(path: "/open", token: "/")])
        host.write("/open", "1")
        #expect(guest.takeEvents() == [])
    }

    @Test("XS3: whether a node exists below an unreadable one cannot be told from the answers")
    func noOracle() {
        let (_, host, guest) = QuotaTests.bench()
        host.write("/secret/there", "1")
        for type in [.read, .directory, .getPermissions, .remove, .makeDirectory] as [StoreMessageType] {
            #expect(guest.ask(type, ["/secret/there"]) == guest.ask(type, ["/secret/not"]))
            #expect(guest.ask(type, ["/secret/there"]) == .error("EACCES"))
        }
        #expect(guest.write("/secret/there") == guest.write("/secret/not"))
        #expect(guest.set("/secret/there", "n1") == guest.set("/secret/not", "n1"))
    }

    @Test("XS3: special events go to whom their permissions name")
    func specialPaths() {
        let (bench, host, guest) = QuotaTests.bench()
        guest.watch("@releaseDomain")
        guest.watch("@introduceDomain")
        #expect(guest.takeEvents().count == 2)
        bench.core.introduceDomain(DomainID(9))
        bench.core.domainDied(DomainID(9))
        #expect(guest.takeEvents() == [])
        #expect(guest.set("@releaseDomain", "r1") == .error("EACCES"))
        #expect(host.set("@releaseDomain", "n0", "r1") == .done)
        bench.core.introduceDomain(DomainID(9))
        bench.core.domainDied(DomainID(9))
        #expect(guest.takeEvents() == [WatchEvent(path: "@releaseDomain", token: "t")])
        #expect(host.set("@other", "n0") == .error("EINVAL"))
    }

    @Test("XS7, XS18: rights given to a dead domain are not the next one's of that number")
    func rightsOfTheDead() {
        let bench = CoreBench()
        let host = bench.peer(0)
        let dead = bench.peer(5)
        host.write("/shared", "1")
        host.set("/shared", "n0", "r5", "b6")
        host.set("@releaseDomain", "n0", "r5")
        #expect(dead.read("/shared") == .value("1"))
        bench.core.domainDied(DomainID(5))
        #expect(!dead.isConnected)
        let next = bench.peer(5)
        #expect(next.read("/shared") == .error("EACCES"))
        #expect(host.ask(.getPermissions, ["/shared"]) == .okay(wireStrings(["n0", "b6"])))
        next.watch("/")
        next.watch("@releaseDomain")
        _ = next.takeEvents()
        host.write("/shared", "2")
        bench.core.domainDied(DomainID(6))
        #expect(next.takeEvents() == [])
        bench.expectSound()
    }

    @Test("XS18: a transaction that gives rights to a domain that dies before it commits, does not commit")
    func rightsInATransaction() {
        let bench = CoreBench()
        let host = bench.peer(0)
        _ = bench.peer(5)
        host.write("/x")
        let transaction = host.begin()
        host.set("/x", "n0", "b5", in: transaction)
        host.write("/mine", in: transaction)
        host.set("/mine", "n5", in: transaction)
        bench.core.domainDied(DomainID(5))
        let next = bench.peer(5)
        #expect(host.end(transaction) == .error("EAGAIN"))
        #expect(next.read("/x") == .error("EACCES"))
        #expect(bench.core.usage(of: DomainID(5)).nodes == 0)
        bench.expectSound()
    }

    @Test("XS18: a guest's entry for a domain that does not exist waits for nobody")
    func rightsOfTheUnborn() {
        let (bench, host, guest) = QuotaTests.bench()
        guest.write("x", "1")
        #expect(guest.set("x", "n1", "r77") == .done)
        #expect(bench.peer(77).read("/local/domain/1/x") == .error("EACCES"))
        #expect(guest.ask(.getPermissions, ["x"]) == .okay(wireStrings(["n1"])))
        // Domain 0 prepares a domain's nodes before it is there.
        host.write("/y", "1")
        #expect(host.set("/y", "n0", "r78") == .done)
        #expect(bench.peer(78).read("/y") == .value("1"))
        bench.expectSound()
    }

    @Test("XS13: a guest cannot give a node, and its quota, away")
    func givingAway() {
        let (bench, host, guest) = QuotaTests.bench()
        _ = bench.peer(2)
        guest.write("x")
        let before = bench.core.usage(of: DomainID(1))
        for owner in ["n0", "n2", "b2"] { #expect(guest.set("x", owner) == .error("EPERM")) }
        let transaction = guest.begin()
        #expect(guest.set("x", "n2", in: transaction) == .error("EPERM"))
        guest.end(transaction)
        #expect(bench.core.usage(of: DomainID(1)) == before && bench.core.usage(of: DomainID(2)).nodes == 0)
        #expect(host.set("/local/domain/1/x", "n2") == .done)
        #expect(bench.core.usage(of: DomainID(1)).nodes == before.nodes - 1 && bench.core.usage(of: DomainID(2)).nodes == 1)
        bench.expectSound()
    }

    @Test("XS14: every request of a guest on the root is refused, and the root outlives domain 0's attempt too")
    func theRoot() {
        let (bench, host, guest) = QuotaTests.bench()
        let before = bench.core.tree.nodes
        #expect(guest.write("/", "x") == .error("EACCES"))
        #expect(guest.remove("/") == .error("EACCES"))
        #expect(guest.ask(.makeDirectory, ["/"]) == .error("EACCES"))
        #expect(guest.set("/", "n1") == .error("EACCES"))
        #expect(guest.ask(.directory, ["/"]) == .error("EACCES"))
        #expect(guest.ask(.getPermissions, ["/"]) == .error("EACCES"))
        #expect(guest.ask(.directoryPart, ["/", "0"]) == .error("EACCES"))
        #expect(host.remove("/") == .error("EINVAL"))
        #expect(bench.core.tree.nodes == before)
    }

    @Test("XS14, XS7: a root that domain 0 gave away is domain 0's again when its owner dies")
    func theRootOfTheDead() {
        let bench = CoreBench()
        let (host, dead) = (bench.peer(0), bench.peer(5))
        let names = host.ask(.directory, ["/"])
        #expect(host.set("/", "n5", "r6") == .done)
        #expect(dead.ask(.directory, ["/"]) == names)
        bench.core.domainDied(DomainID(5))
        let next = bench.peer(5)
        #expect(next.ask(.directory, ["/"]) == .error("EACCES"))
        #expect(next.write("/x") == .error("EACCES"))
        #expect(host.ask(.directory, ["/"]) == names)
        #expect(host.ask(.getPermissions, ["/"]) == .okay(wireStrings(["n0", "r6"])))
        bench.expectSound()
    }

    @Test("XS20: domains that own nodes in each other's directories leave none behind when they die, round after round")
    func cooperatingGuests() {
        let bench = CoreBench()
        let host = bench.peer(0)
        let start = bench.core.usage()
        for round in 0..<20 as Range<UInt16> {
            let (a, b) = (10 + round * 2, 11 + round * 2)
            for domain in [a, b] {
                host.write("/local/domain/\(domain)")
                host.set("/local/domain/\(domain)", "n\(domain)")
            }
            let (first, second) = (bench.peer(a), bench.peer(b))
            first.write("open")
            #expect(first.set("open", "n\(a)", "b\(b)") == .done)
            for index in 0..<50 { #expect(second.write("/local/domain/\(a)/open/\(index)/x") == .done) }
            #expect(bench.core.usage(of: DomainID(b)).nodes == 101)
            bench.core.domainDied(DomainID(a))
            #expect(bench.core.usage(of: DomainID(b)).nodes == 1)
            bench.core.domainDied(DomainID(b))
            bench.expectSound()
        }
        host.remove("/local")
        #expect(bench.core.usage() == start)
    }

    @Test("XS33: what only domain 0 may ask is refused to a guest, and nothing changes")
    func privilegedRequests() {
        let (bench, host, guest) = QuotaTests.bench()
        let before = bench.core.tree.nodes
        #expect(guest.ask(.introduce, ["9", "1", "1"]) == .error("EACCES"))
        #expect(guest.ask(.release, ["1"]) == .error("EACCES"))
        #expect(guest.ask(.setTarget, ["1", "2"]) == .error("EACCES"))
        #expect(guest.ask(.resume, ["1"]) == .error("EACCES"))
        #expect(guest.ask(.isDomainIntroduced, ["1"]) == .error("EACCES"))
        #expect(guest.ask(.control, ["check"]) == .error("EACCES"))
        #expect(guest.ask(.getDomainPath, ["4"]) == .okay(Array("/local/domain/4\0".utf8)))
        #expect(bench.core.tree.nodes == before && guest.isConnected)
        #expect(host.ask(.introduce, ["9", "1", "0"]) == .error("EINVAL"))
        #expect(host.ask(.introduce, ["70000", "1", "1"]) == .error("EINVAL"))
        #expect(host.ask(.release, ["0"]) == .error("EINVAL"))
        #expect(host.ask(.release, ["55"]) == .error("ENOENT"))
        #expect(host.ask(.control, ["unheard-of"]) == .error("EINVAL"))
        #expect(host.ask(.control, ["check"]) == .done)
    }

    @Test func aTargetsRightsAreItsHelpersToo() {
        let (bench, host, guest) = QuotaTests.bench()
        let helper = bench.peer(2)
        guest.write("x", "1")
        #expect(helper.read("/local/domain/1/x") == .error("EACCES"))
        #expect(host.ask(.setTarget, ["2", "1"]) == .error("ENOENT"))
        bench.core.introduceDomain(DomainID(2))
        #expect(host.ask(.setTarget, ["2", "1"]) == .done)
        #expect(helper.read("/local/domain/1/x") == .value("1"))
        bench.core.domainDied(DomainID(1))
        host.write("/local/domain/1/x", "2")
        host.set("/local/domain/1/x", "n1")
        #expect(helper.read("/local/domain/1/x") == .error("EACCES"))
    }

    @Test("XS10: a domain whose connection was dropped for its behaviour is announced when it dies")
    func deathOfTheMisbehaved() {
        let (bench, host, guest) = QuotaTests.bench()
        host.watch("@releaseDomain")
        _ = host.takeEvents()
        guest.send([UInt8](repeating: 0xFF, count: 16))
        #expect(!guest.isConnected)
        #expect(host.ask(.isDomainIntroduced, ["1"]) == .okay(Array("T\0".utf8)))
        bench.core.domainDied(DomainID(1))
        #expect(host.takeEvents() == [WatchEvent(path: "@releaseDomain", token: "t")])
        bench.core.domainDied(DomainID(1))
        #expect(host.takeEvents() == [])
    }

    @Test func shutdownIsAnnouncedOnceUntilResumed() {
        let (bench, host, _) = QuotaTests.bench()
        host.watch("@releaseDomain")
        _ = host.takeEvents()
        for expected in [1, 0] {
            bench.core.domainShutDown(DomainID(1))
            #expect(host.takeEvents().count == expected)
        }
        #expect(host.ask(.resume, ["1"]) == .done)
        bench.core.domainShutDown(DomainID(1))
        #expect(host.takeEvents().count == 1)
    }
}
