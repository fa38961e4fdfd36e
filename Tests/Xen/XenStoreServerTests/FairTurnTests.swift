// One domain's flood and another's one request: the server's turns are shared out by domain.

import LinuxSystem
import TestSupport
import Testing
@testable import XenStore
@testable import XenStoreServer
import XenTypes

struct FairTurnTests {
    /// A domain with 200 connections full of requests has its share of a turn; another's request is in the same.
    @Test func XS37_aFloodWaitsForItsTurns() throws {
        // A look at the clock takes 20 µs: a share is over after a few requests.
        let time = SteppingClock(step: 20_000)
        var state = StoreServerState(core: StoreCore())
        state.wake = try WakePipe()
        let request = StoreMessage(.getDomainPath, request: 5, payload: Array("1\0".utf8)).bytes
        var clients: [(DomainID, Descriptor)] = []
        for number in 0..<201 {
            let domain = DomainID(number < 200 ? 1 : 2)
            let (mine, theirs) = try StreamSocket.pair()
            try mine.setNonBlocking(true)
            state.sockets[state.core.connect(domain: domain)] = mine
            let flood = domain == DomainID(1) ? Array(repeating: request, count: 100).flatMap(\.self) : request
            #expect(try StreamSocket.send(theirs.rawValue, flood[...], wait: true) == flood.count)
            clients.append((domain, theirs))
        }
        let reply = StoreMessage(.getDomainPath, request: 5, payload: Array("/local/domain/1\0".utf8)).bytes.count
        func turn() throws {
            let planned = state.plan(now: time.nanoseconds)
            let plan = try #require(planned)
            var entries = plan.entries
            try waitForEvents(&entries, milliseconds: 0)
            state.turn(entries, plan, time)
        }
        var received = [Int](repeating: 0, count: clients.count)
        func receive() throws {
            for (index, client) in clients.enumerated() where try waitReadable(client.1.rawValue, milliseconds: 0) {
                received[index] += try StreamSocket.receive(client.1.rawValue, capacity: 1 << 20, wait: false).count
            }
        }
        try turn()
        try receive()
        #expect(received[200] == reply)
        #expect(1...4 ~= received[..<200].reduce(0, +) / reply)
        // Everything is answered in the end, the domain's connections one after another.
        var turns = 1
        while received[..<200].reduce(0, +) < 200 * 100 * reply, turns < 30_000 {
            try turn()
            try receive()
            turns += 1
        }
        #expect(received[..<200].allSatisfy { $0 == 100 * reply })
        #expect(state.lines.isEmpty && state.waiting.isEmpty)
    }
}
