// Section F of the attack list once more: the limit of ports, and the death of who has very many.

import HypervisorRules
import Testing
import XenTypes

@Suite struct PortLimitTests {
    /// Domains 0 to 2, each with room for `ports` ports.
    private func core(ports: Int) throws -> HypervisorCore {
        var limits = HypervisorLimits()
        limits.ports = ports
        let core = HypervisorCore(limits: limits)
        for number in UInt16(0)...2 { _ = try core.createDomain(DomainID(number)) }
        return core
    }

    /// The limit is one number from a host's first moment to its last, so what can happen to a port in use is that the
    /// limit is reached around it.
    @Test func EV4_portsInUseStayValidWhenNoMoreMayBe() throws {
        let core = try core(ports: 8)
        let one = try core.connect(DomainID(1)), zero = try core.connect(.zero)
        let ports = try (0..<8).map { _ in try core.allocatePort(for: .zero, by: one) }
        #expect(throws: CoreError.limit("event channels", 8)) { _ = try core.allocatePort(for: .zero, by: one) }
        for port in ports {
            let theirs = try core.bindPort(remote: DomainID(1), port: port.port, by: zero)
            #expect(try core.takePending(theirs.port, by: zero))
            try core.notify(theirs.port, by: zero)
            #expect(try core.takePending(port.port, by: one))
            try core.mask(port.port, by: one)
            try core.unmask(port.port, by: one)
        }
        // One that is given back makes room for one; the others are what they were.
        try core.closePort(ports[3].port, by: one)
        #expect(try core.allocatePort(for: .zero, by: one).port == ports[3].port)
        #expect(throws: CoreError.limit("event channels", 8)) { _ = try core.allocatePort(for: .zero, by: one) }
        for port in ports where port.port != ports[3].port { #expect(core.peer(of: port.id) != nil) }
    }

    /// Whoever asks, first or last, in however many processes, and before or after it is known what it is.
    @Test func EV6_thereIsOneLimitForEveryKindOfClient() throws {
        let core = try core(ports: 8)
        for domain in UInt16(0)...2 {
            let first = try core.connect(DomainID(domain)), second = try core.connect(DomainID(domain))
            for number in 0..<8 {
                switch number {
                case 0: _ = try core.bindVirtual(.domainException, by: second)
                default: _ = try core.allocatePort(for: .zero, by: number % 2 == 0 ? first : second)
                }
            }
            for client in [first, second] {
                #expect(throws: CoreError.limit("event channels", 8)) { _ = try core.allocatePort(for: .zero, by: client) }
                #expect(throws: CoreError.limit("event channels", 8)) {
                    _ = try core.bindVirtual(VirtualInterrupt(1), by: client)
                }
            }
        }
        #expect(core.usage.ports == 24)
    }

    /// A port has its state in itself: nothing of it is elsewhere, to be there or not.
    @Test func EV2_aPortThatJustCameKnowsAllThatOthersDo() throws {
        let core = try core(ports: 8)
        let one = try core.connect(DomainID(1))
        let port = try core.allocatePort(for: .zero, by: one).port
        #expect(core.status(of: port, in: DomainID(1)) == .unbound(.zero))
        try core.notify(port, by: one)
        try core.mask(port, by: one)
        try core.unmask(port, by: one)
        #expect(try !core.takePending(port, by: one))
        try core.closePort(port, by: one)
        #expect(core.status(of: port, in: DomainID(1)) == .closed)
    }

    @Test func EV8_aDeathWithManyPortsIsReleasedInSlices() throws {
        let core = try core(ports: 4096)
        let dead = try core.connect(DomainID(1)), other = try core.connect(DomainID(2)), zero = try core.connect(.zero)
        for number in 0..<4096 {
            let port = try core.allocatePort(for: .zero, by: dead)
            if number % 4 == 0 { _ = try core.bindPort(remote: DomainID(1), port: port.port, by: zero) }
        }
        core.close(dead)
        var slices = 0
        while core.reap(budget: 64) {
            slices += 1
            if slices % 16 == 1 {
                // Others are served in between.
                let mine = try core.allocatePort(for: .zero, by: other)
                let theirs = try core.bindPort(remote: DomainID(2), port: mine.port, by: zero)
                try core.notify(theirs.port, by: zero)
                #expect(try core.takePending(mine.port, by: other))
                try core.closePort(mine.port, by: other)
                try core.closePort(theirs.port, by: zero)
            }
        }
        #expect(slices >= 4096 / 64 - 1)
        #expect(core.usage.ports == 1024 && core.usage.dying == 0)
    }

    @Test func E15_processesAndDomainsHaveAnEnd() throws {
        var limits = HypervisorLimits()
        (limits.domains, limits.connections) = (3, 2)
        let core = HypervisorCore(limits: limits)
        for number in UInt16(0)...2 { _ = try core.createDomain(DomainID(number)) }
        #expect(throws: CoreError.limit("domains", 3)) { _ = try core.createDomain(nil) }
        let first = try core.connect(DomainID(1))
        _ = try core.connect(DomainID(1))
        #expect(throws: CoreError.limit("connections", 2)) { _ = try core.connect(DomainID(1)) }
        _ = try core.connect(DomainID(2))
        core.close(first)
        while core.reap() {}
        _ = try core.connect(DomainID(1))
    }
}
