// Real processes that die, and what the daemon and the others make of it.

import Foundation
import Hypervisor
import HypervisorRules
import LinuxSystem
@testable import Loopback
import SharedMemory
import Testing
import TestSupport
import XenTypes

@Suite(.serialized, .timeLimit(.minutes(1))) struct DeathTests {
    let host: TestHost
    let back: LoopbackHypervisor

    init() throws {
        host = try TestHost()
        back = try host.domain(0)
    }

    private func references(_ line: String?) throws -> [GrantReference] {
        try #require(line).split(separator: " ").map { GrantReference(UInt32($0) ?? 0) }
    }

    @Test func L2_GT31_aKilledGranterLeavesItsPagesValidAndNothingElse() throws {
        let before = try host.usage
        let (domain, child) = try host.spawnProbe { _ in ["offer", "0", "3", "rw"] }
        let offered = try references(try child.line())
        let grants = try back.mapGrants(offered, of: domain, access: .readWrite)
        #expect(grants.map { $0.region.load($0.offset, as: UInt32.self) } == [0, 1, 2])
        child.end()
        #expect(try eventually(1000) { try !host.control.domains().contains(domain) })
        grants[1].region.store(UInt32(77), at: grants[1].offset)
        #expect(grants[1].region.load(grants[1].offset, as: UInt32.self) == 77)
        #expect(throws: HypervisorError.grantRefused(offered[0], of: domain, .badDomain)) {
            _ = try back.mapGrants([offered[0]], of: domain, access: .readOnly)
        }
        back.unmapGrants(grants)
        #expect(try host.settles(at: before))
        #expect(eventually(5000) { back.cachedRuns == 0 })
    }

    @Test func L2_aKilledMapperLetsTheGranterEndEveryGrant() throws {
        let before = try host.usage
        // The references are made before the process is started, for the number that it will have.
        let offer = try back.offerPages(2, to: DomainID(1), access: .readWrite)
        offer.region.store(UInt32(41), at: 4096)
        let (domain, child) = try host.spawnProbe { _ in ["map", "0"] + offer.references.map(\.description) }
        #expect(domain == DomainID(1))
        #expect(try child.line() == "0 41")
        #expect(offer.isMapped(page: 0) == true)
        #expect(!offer.withdraw())
        child.end()
        #expect(try host.settles(at: before, seconds: 1))
        // The references are free again: as many as a page of the table has.
        let again = try back.offerPages(504, to: DomainID(9), access: .readWrite)
        #expect(Set(again.references).count == 504)
    }

    @Test func L1_EV15_EV16_aKilledBackendsSuccessorBindsAndHearsEverything() throws {
        let front = try host.domain(1)
        let channel = try front.allocateChannel(for: DomainID(2))
        _ = try host.control.createDomain(DomainID(2))
        for round in 0..<5 {
            let child = try host.spawnProbe(of: DomainID(2), ["bind", "1", channel.port.description])
            _ = try #require(try child.line())
            // The bell rings for the new end's first event, and then one for one.
            for _ in 0..<3 {
                channel.acknowledge()
                channel.notify()
                #expect(try isReadable(channel.descriptor, milliseconds: 2000), "round \(round)")
            }
            channel.acknowledge()
            child.end()
            #expect(try isReadable(channel.descriptor, milliseconds: 1000))
            channel.acknowledge()
            // Nobody there: neither an error nor a signal.
            channel.notify()
        }
    }

    @Test func L3_aDeadDaemonIsAnErrorAndMappedPagesStay() throws {
        let directory = NSTemporaryDirectory() + "causeway-\(UUID().uuidString.prefix(8))"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let daemon = try Child.probe(["host", directory])
        #expect(try daemon.line() == "serving")
        let control = try LoopbackControl(runDirectory: directory, time: .system)
        let (domain, socket) = try control.createDomain()
        let front = try LoopbackHypervisor(socket: socket, time: .system)
        let back = try LoopbackHypervisor(runDirectory: directory, domain: .zero, time: .system)
        let offer = try front.offerPages(1, to: .zero, access: .readWrite)
        let grants = try back.mapGrants(offer.references, of: domain, access: .readWrite)
        let bell = try front.allocateChannel(for: .zero)
        let other = try back.bindChannel(remote: domain, port: bell.port)
        other.acknowledge()
        daemon.end()
        // Data and bells go on; whatever needs the daemon says that it is gone.
        offer.region.store(UInt32(5), at: 8)
        #expect(grants[0].region.load(grants[0].offset + 8, as: UInt32.self) == 5)
        other.notify()
        #expect(try isReadable(bell.descriptor, milliseconds: 1000))
        #expect(throws: HypervisorError.self) { _ = try front.offerPages(1, to: .zero, access: .readWrite) }
        #expect(throws: HypervisorError.self) { _ = try control.domains() }
        back.unmapGrants(grants)
        offer.withdraw()
        // A new daemon takes the directory over.
        let second = try Child.probe(["host", directory])
        #expect(try second.line() == "serving")
        #expect(try LoopbackControl(runDirectory: directory, time: .system).usage().mappings == 0)
    }

    @Test func L15_aDaemonOutOfDescriptorsTurnsNewcomersAwayAndServesTheRest() throws {
        let directory = NSTemporaryDirectory() + "causeway-\(UUID().uuidString.prefix(8))"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let daemon = try Child.probe(["host", directory])
        #expect(try daemon.line() == "serving")
        let control = try LoopbackControl(runDirectory: directory, time: .system)
        let (domain, socket) = try control.createDomain()
        let front = try LoopbackHypervisor(socket: socket, time: .system)
        let offer = try front.offerPages(1, to: .zero, access: .readWrite)
        // The daemon closes its copy of what it passed just after the answer.
        usleep(100_000)
        let numbers = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(daemon.pid)/fd").compactMap { Int($0) }
        // The limit is on numbers: below the lowest free one there is none to be had.
        let most = try #require((0...).first { !numbers.contains($0) })
        let limit = try Child("/usr/bin/env", ["prlimit", "--pid", "\(daemon.pid)", "--nofile=\(most):"])
        limit.process.waitUntilExit()
        #expect(throws: HypervisorError.self) { _ = try LoopbackHypervisor(runDirectory: directory, domain: .zero, time: .system) }
        #expect(throws: HypervisorError.self) { _ = try front.offerPages(1, to: .zero, access: .readWrite) }
        // Those that are there go on, and the daemon sleeps in between.
        offer.region.store(UInt8(1), at: 0)
        #expect(try control.usage(of: domain).runs == 1)
        let before = try processorTicks(daemon.pid)
        usleep(300_000)
        #expect(try processorTicks(daemon.pid) - before < 10)
        let relief = try Child("/usr/bin/env", ["prlimit", "--pid", "\(daemon.pid)", "--nofile=1000:"])
        relief.process.waitUntilExit()
        #expect(eventually(5000) { (try? LoopbackHypervisor(runDirectory: directory, domain: .zero, time: .system)) != nil })
        #expect(try control.usage(of: domain).runs == 1)
    }

    /// User and system time so far, in hundredths of a second (proc(5), fields 14 and 15).
    private func processorTicks(_ process: Int32) throws -> Int {
        let text = try String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)
        let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
        return (Int(fields[12]) ?? 0) + (Int(fields[13]) ?? 0)
    }

    @Test func aSecondDaemonInOneDirectoryIsRefused() throws {
        #expect(throws: HypervisorError.self) { _ = try LoopbackHost(runDirectory: host.directory, time: .system) }
        #expect(try host.control.domains() == [.zero])
    }
}

extension TestHost {
    /// A new domain's process. Only it holds the domain's socket, so that its death is the domain's.
    func spawnProbe(_ verb: (DomainID) throws -> [String]) throws -> (DomainID, Child) {
        let (domain, socket) = try control.createDomain(lifetime: .withSocket)
        return (domain, try Child.probe(try verb(domain), socket: socket))
    }

    /// A further process of a domain that exists.
    func spawnProbe(of domain: DomainID, _ arguments: [String]) throws -> Child {
        try Child.probe(arguments, socket: try control.openDomain(domain))
    }
}
