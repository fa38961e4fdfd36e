// Each domain has its share of the daemon, and no more: of its turns, of its descriptors, and of those that the kernel
// lets it have under way. The loop is driven by hand, one turn at a time, and by a clock on which each look takes time.

import Foundation
import Hypervisor
import HypervisorRules
import LinuxSystem
@testable import Loopback
import TestSupport
import Testing
import XenStoreServer
import XenTypes

/// A daemon's loop, and sockets of domains at its other side.
private final class Scene {
    let loop: HostLoop
    private let directory: TemporaryDirectory
    private let store: StoreServer
    private let stop: WakePipe

    init(limits: HypervisorLimits = HypervisorLimits(), time: any TimeSource) throws {
        directory = try TemporaryDirectory()
        stop = try WakePipe()
        store = StoreServer(time: .system)
        loop = try HostLoop(runDirectory: directory.path, limits: limits, store: store, stop: stop.reader, time: time)
    }

    deinit { loop.shutDown() }

    /// The end of somebody who has not said anything since then.
    func stranger(since: UInt64) throws -> Descriptor {
        let (mine, theirs) = try PacketSocket.pair()
        try mine.setNonBlocking(true)
        let peer = HostPeer(socket: mine, standing: .greeting(user: 0))
        peer.since = since
        loop.add(peer)
        return theirs
    }

    /// So many clients of a new domain: their ends and the loop's.
    func domain(_ number: UInt16, clients: Int) throws -> [(socket: Descriptor, peer: HostPeer)] {
        let domain = try loop.core.createDomain(DomainID(number))
        return try (0..<clients).map { _ in
            let (mine, theirs) = try PacketSocket.pair()
            try mine.setNonBlocking(true)
            let peer = HostPeer(socket: mine, standing: .domain(try loop.core.connect(domain), domain))
            loop.add(peer)
            return (theirs, peer)
        }
    }
}

private func isAnswered(_ client: (socket: Descriptor, peer: HostPeer)) throws -> Bool { try isReadable(client.socket) }

@Suite(.timeLimit(.minutes(1))) struct ShareTests {
    /// A domain with 200 connections that all ask waits for its turns; another's one request is in the first.
    @Test func E13_aFloodWaitsForItsTurns() throws {
        // A look at the clock takes 30 µs: a share is over after two requests.
        let scene = try Scene(time: SteppingClock(step: 30_000))
        let many = try scene.domain(1, clients: 200)
        let one = try scene.domain(2, clients: 1)
        for client in many + one { try PacketSocket.send(client.socket, Request.usage(nil).encode(sequence: 7)) }
        scene.loop.turn()
        #expect(try isAnswered(one[0]))
        #expect(try 1...2 ~= many.count(where: isAnswered))
        // And all come to be served.
        var turns = 1
        while try many.count(where: isAnswered) < many.count, turns < 300 {
            scene.loop.turn()
            turns += 1
        }
        #expect(turns <= 200)
    }

    /// A domain that leaves what it was passed unread waits for itself; another is served.
    @Test func E14_unreadDescriptorsAreTheirDomainsOwnShare() throws {
        var limits = HypervisorLimits()
        limits.openFiles = 1024
        let scene = try Scene(limits: limits, time: .system)
        let many = try scene.domain(1, clients: 10)
        let one = try scene.domain(2, clients: 1)
        // 270 ports, each with a descriptor: more than half of the 512 that may be under way.
        for client in many {
            for number in 0..<27 {
                try PacketSocket.send(client.socket, Request.allocatePort(remote: .zero).encode(sequence: UInt32(number)))
            }
        }
        var turns = 0
        while !many.contains(where: { $0.peer.isShort }), turns < 1000 {
            scene.loop.turn()
            turns += 1
        }
        let unread = many.reduce(0) { $0 + $1.peer.passed.answers }
        #expect(unread == 256 && many.contains { $0.peer.isShort })
        try PacketSocket.send(one[0].socket, Request.allocatePort(remote: .zero).encode(sequence: 1))
        turns = 0
        while try !isAnswered(one[0]), turns < 100 {
            scene.loop.turn()
            turns += 1
        }
        try #require(turns < 100)
        #expect(try PacketSocket.receive(one[0].socket, descriptors: 4).1.count == 1)
        // Who reads goes on: nothing was dropped.
        var answers = 0
        for _ in 0..<100 {
            for client in many {
                while try isAnswered(client) {
                    #expect(try PacketSocket.receive(client.socket, descriptors: 4).1.count == 1)
                    answers += 1
                }
            }
            if answers == 270 { break }
            scene.loop.turn()
        }
        #expect(answers == 270)
    }

    /// Whoever takes all the descriptors it can leaves as many to the others, and domain 0 its own.
    @Test func E15_nobodyTakesAllDescriptors() throws {
        var limits = HypervisorLimits()
        limits.openFiles = 1024
        let host = try TestHost(limits: limits)
        var taken: [Int] = []
        var held: [any EventChannel] = []
        for number in 1...3 {
            let greedy = try host.domain(UInt16(number))
            let before = held.count
            #expect(throws: HypervisorError.self) {
                while held.count < 1000 { held.append(try greedy.allocateChannel(for: .zero)) }
            }
            taken.append(held.count - before)
        }
        // Half, a quarter, an eighth of what is shared.
        #expect(250...300 ~= taken[0] && 120...150 ~= taken[1] && 55...75 ~= taken[2])
        let honest = try host.domain(4)
        _ = try honest.allocateChannel(for: .zero)
        _ = try honest.offerPages(4, to: .zero, access: .readWrite)
        _ = try honest.connectStore()
        _ = try host.domain(0).offerPages(4, to: DomainID(4), access: .readWrite)
        _ = try LoopbackControl(runDirectory: host.directory, time: .system).domains()
    }

    /// Of the store's connections, too.
    @Test func E15_norAllOfTheStoresConnections() throws {
        var limits = HypervisorLimits()
        limits.openFiles = 1024
        let host = try TestHost(limits: limits)
        let greedy = try host.domain(1)
        var held: [Any] = []
        #expect(throws: HypervisorError.self) { while held.count < 1000 { held.append(try greedy.connectStore()) } }
        #expect(90...110 ~= held.count)
        _ = try host.domain(2).connectStore()
        _ = try host.domain(0).connectStore()
    }

    /// Whoever does not say what it wants is dropped after ten seconds; who has said it stays.
    @Test func E16_whoeverIsSilentIsDropped() throws {
        let clock = ManualClock()
        let scene = try Scene(time: clock)
        let silent = try scene.stranger(since: clock.nanoseconds)
        let known = try scene.domain(1, clients: 1)
        clock.sleep(nanoseconds: 9_000_000_000)
        scene.loop.turn()
        #expect(try !isReadable(silent))
        clock.sleep(nanoseconds: 2_000_000_000)
        scene.loop.turn()
        #expect(try isReadable(silent) && !isAnswered(known[0]))
        #expect(scene.loop.peers.count == 1)
    }
}
