// Domains that die together: a guest and its helper, whose rights and connections lead to the same nodes.

import Testing
@testable import XenStore
@testable import XenStoreServer
import XenTypes

@Suite struct DyingTests {
    enum Step: CaseIterable {
        case guestDies, helperDies, guestCloses, helperCloses
    }

    /// Every order of the four steps.
    static let orders: [[Step]] = Step.allCases.flatMap { a in
        Step.allCases.flatMap { b in
            Step.allCases.flatMap { c in
                Step.allCases.compactMap { d in Set([a, b, c, d]).count == 4 ? [a, b, c, d] : nil }
            }
        }
    }

    @Test("XS5: a guest and its helper die at once, in the middle of transactions and in any order: each connection ends once")
    func together() {
        #expect(Self.orders.count == 24)
        for order in Self.orders { dies(in: order) }
    }

    private func dies(in order: [Step]) {
        let bench = CoreBench()
        let host = bench.peer(0)
        for domain in ["1", "2"] {
            host.write("/local/domain/\(domain)")
            host.set("/local/domain/\(domain)", "n\(domain)")
            bench.core.introduceDomain(DomainID(decimal: domain) ?? .zero)
        }
        #expect(host.ask(.setTarget, ["2", "1"]) == .done)
        host.watch("@releaseDomain")
        _ = host.takeEvents()
        let guests = [bench.peer(1), bench.peer(1)]
        let helpers = [bench.peer(2), bench.peer(2)]
        for peer in guests + helpers {
            for domain in [1, 2] { peer.watch("/local/domain/\(domain)", "x") }
            #expect(peer.write("/local/domain/1/shared", "before") == .done)
            let transaction = peer.begin()
            #expect(peer.write("/local/domain/1/shared", "unfinished", in: transaction) == .done)
        }
        var ended: [StoreConnectionID: Int] = [:]
        for step in order + [.guestDies, .helperDies] {
            switch step {
            case .guestDies: bench.core.domainDied(DomainID(1))
            case .helperDies: bench.core.domainDied(DomainID(2))
            case .guestCloses: bench.core.disconnect(guests[0].id)
            case .helperCloses: bench.core.disconnect(helpers[0].id)
            }
            for (id, _) in bench.core.takeDropped() { ended[id, default: 0] += 1 }
            bench.expectSound()
        }
        #expect((guests + helpers).allSatisfy { !$0.isConnected })
        #expect(ended.values.allSatisfy { $0 == 1 })
        #expect(ended[guests[1].id] == 1 && ended[helpers[1].id] == 1)
        #expect(ended[guests[0].id] == (order.firstIndex(of: .guestDies)! < order.firstIndex(of: .guestCloses)! ? 1 : nil))
        #expect(ended[helpers[0].id] == (order.firstIndex(of: .helperDies)! < order.firstIndex(of: .helperCloses)! ? 1 : nil))
        for domain in [DomainID(1), DomainID(2)] {
            let usage = bench.core.usage(of: domain)
            #expect(usage == StoreUsage())
            #expect(host.read("/local/domain/\(domain)") == .error("ENOENT"))
        }
        #expect(host.takeEvents().count == 1, "told at once, an event waits until it is read and is not doubled")
    }
}
