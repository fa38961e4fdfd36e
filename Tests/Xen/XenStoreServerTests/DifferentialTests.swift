// Random requests against the store and against the obvious model of it.

import Testing
import TestSupport
@testable import XenStore
@testable import XenStoreServer
import XenTypes

@Suite struct DifferentialTests {
    static let domains = [DomainID(0), DomainID(1), DomainID(2)]

    struct Actor {
        let domain: DomainID
        let peer: CorePeer
        var watches: [(path: String, token: String)] = []
        var transaction: UInt32 = 0
        /// What the transaction asked and was told, to be held against the tree that it commits to.
        var log: [(ModelRequest, Answer)] = []
        var begun = 0
    }

    /// The world of one run.
    struct Run {
        let bench: CoreBench
        var model = StoreModel()
        var actors: [Actor]
        var generator: SplitMix
        var changeCount = 0
        var (commits, conflicts) = (0, 0)

        init(seed: UInt64, nodeLimit: Int) {
            var limits = StoreLimits()
            limits.nodes = nodeLimit
            bench = CoreBench(limits)
            model.nodeLimit = nodeLimit
            let bench = bench
            actors = (DifferentialTests.domains + DifferentialTests.domains).map {
                Actor(domain: $0, peer: bench.peer($0.rawValue))
            }
            generator = SplitMix(seed)
            bench.core.introduceDomain(DomainID(1))
            bench.core.introduceDomain(DomainID(2))
        }

        mutating func path() -> String {
            let depth = [0, 1, 1, 2, 2, 3, 3, 4].randomElement(using: &generator)!
            return "/" + (0..<depth).map { _ in ["a", "b", "c"].randomElement(using: &generator)! }.joined(separator: "/")
        }

        mutating func permissions() -> [StorePermission] {
            (0..<Int.random(in: 1...3, using: &generator)).map { _ in
                StorePermission(
                    [.none, .read, .write, .both].randomElement(using: &generator)!,
                    DifferentialTests.domains.randomElement(using: &generator)!)
            }
        }

        mutating func request() -> ModelRequest {
            let path = path()
            switch Int.random(in: 0..<14, using: &generator) {
            case 0...1: return .read(path)
            case 2: return .directory(path)
            case 3: return .permissions(path)
            case 4...7: return .write(path, "\(Int.random(in: 0..<1000, using: &generator))")
            case 8: return .make(path)
            case 9...10: return .remove(path)
            default: return .set(path, permissions())
            }
        }
    }

    static func ask(_ request: ModelRequest, _ peer: CorePeer, in transaction: UInt32) -> Answer {
        switch request {
        case .read(let path): peer.read(path, in: transaction)
        case .directory(let path): peer.ask(.directory, [path], in: transaction)
        case .permissions(let path): peer.ask(.getPermissions, [path], in: transaction)
        case .write(let path, let value): peer.write(path, value, in: transaction)
        case .make(let path): peer.ask(.makeDirectory, [path], in: transaction)
        case .remove(let path): peer.remove(path, in: transaction)
        case .set(let path, let permissions): peer.ask(.setPermissions, [path] + permissions.map(\.wire), in: transaction)
        }
    }

    static func step(_ run: inout Run, withTransactions: Bool) {
        let index = run.actors.indices.randomElement(using: &run.generator)!
        let actor = run.actors[index]
        run.model.changes = []
        // Time passes, so that nobody is held back for another's conflict.
        run.bench.now += 1_000_000_000
        switch Int.random(in: 0..<100, using: &run.generator) {
        case 0..<3 where actor.watches.count < 4:
            let watch = (path: run.path(), token: "\(actor.watches.count)")
            #expect(actor.peer.watch(watch.path, watch.token) == .done)
            #expect(actor.peer.takeEvents() == [WatchEvent(path: watch.path, token: watch.token)])
            run.actors[index].watches.append(watch)
        case 3..<8 where withTransactions && actor.transaction == 0:
            run.actors[index].transaction = actor.peer.begin()
            run.actors[index].begun = run.changeCount
        case 8..<25 where actor.transaction != 0: finish(&run, index)
        case 25 where actor.domain != .zero && actor.transaction == 0: die(&run, actor.domain)
        default:
            let request = run.request()
            let answer = ask(request, actor.peer, in: actor.transaction)
            if actor.transaction != 0 {
                run.actors[index].log.append((request, answer))
            } else {
                let expected = run.model.perform(request, by: actor.domain)
                #expect(answer == expected, "\(request) by \(actor.domain)")
                run.changeCount += run.model.changes.count
                checkEvents(&run, privilegedOnly: false)
            }
        }
    }

    /// Commits or aborts. A commit that succeeded must be explainable as if all of it had run now (serializability);
    /// one that met a conflict must have had something to conflict with, and must have changed nothing.
    static func finish(_ run: inout Run, _ index: Int) {
        let actor = run.actors[index]
        let commit = Int.random(in: 0..<5, using: &run.generator) > 0
        let before = run.model.nodes
        let answer = actor.peer.end(actor.transaction, commit: commit)
        if answer == .done && commit {
            for (request, seen) in actor.log {
                let now = run.model.perform(request, by: actor.domain)
                #expect(seen == now, "\(request) in a transaction of \(actor.domain) that committed")
            }
            run.changeCount += run.model.changes.count
            run.commits += 1
        } else if commit {
            #expect(answer == .error("EAGAIN"))
            #expect(run.changeCount > actor.begun, "a conflict without a change")
            run.conflicts += 1
        }
        checkEvents(&run, privilegedOnly: true, before: before)
        run.actors[index].transaction = 0
        run.actors[index].log = []
    }

    static func die(_ run: inout Run, _ domain: DomainID) {
        run.bench.core.domainDied(domain)
        run.model.die(domain)
        run.changeCount += 1
        checkEvents(&run, privilegedOnly: true)
        run.bench.core.introduceDomain(domain)
        for index in run.actors.indices where run.actors[index].domain == domain {
            #expect(!run.actors[index].peer.isConnected)
            run.actors[index] = Actor(domain: domain, peer: run.bench.peer(domain.rawValue))
        }
    }

    /// Whether each got the events that the model says. Of a node that was neither there `before` nor is now, having
    /// come and gone within one transaction, nobody need hear.
    static func checkEvents(_ run: inout Run, privilegedOnly: Bool, before: [String: StoreModel.Node]? = nil) {
        for actor in run.actors {
            let got = actor.peer.takeEvents()
            if privilegedOnly && actor.domain != .zero { continue }
            let expected = run.model.events(for: actor.domain, actor.watches)
            let needed = expected.filter { before == nil || before?[$0.path] != nil || run.model.nodes[$0.path] != nil }
            #expect(needed.isSubset(of: got) && expected.isSuperset(of: got), "events of \(actor.domain)")
            #expect(Set(got).count == got.count, "an event twice")
        }
    }

    static func checkTree(_ run: Run) {
        run.bench.expectSound()
        var tree: [String: StoreModel.Node] = [:]
        for (path, node) in run.bench.core.tree.nodes {
            tree[path.text] = StoreModel.Node(
                value: String(decoding: node.value, as: UTF8.self), children: node.children, permissions: node.permissions)
        }
        #expect(tree == run.model.nodes)
        for domain in domains { #expect(run.bench.core.usage(of: domain).nodes == run.model.owned(by: domain)) }
    }

    @Test("Requests, watches and deaths, with a small node quota", arguments: 1...40 as ClosedRange<UInt64>)
    func withoutTransactions(_ seed: UInt64) {
        var run = Run(seed: seed, nodeLimit: 12)
        for step in 0..<600 {
            Self.step(&run, withTransactions: false)
            if step % 50 == 49 { Self.checkTree(run) }
        }
    }

    @Test("XS22: transactions: what commits is serializable, accounts stay equal", arguments: 1...40 as ClosedRange<UInt64>)
    func withTransactions(_ seed: UInt64) {
        var run = Run(seed: seed, nodeLimit: .max)
        for step in 0..<1600 {
            Self.step(&run, withTransactions: true)
            if step % 50 == 49 { Self.checkTree(run) }
        }
        #expect(run.commits > 5 && run.conflicts > 0, "\(run.commits) commits, \(run.conflicts) conflicts")
    }
}
