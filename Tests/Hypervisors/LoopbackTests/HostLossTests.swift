// What a process knows once its host is gone, and that a shortage of the kernel's is not taken for that.

import Foundation
import Hypervisor
import LinuxSystem
import Testing
import TestSupport
import XenStore
import XenTypes

@testable import Loopback

@Suite(.timeLimit(.minutes(1))) struct HostLossTests {
    @Test("L3: a host that ends is lost for good: its connections end together, and nobody waits for another")
    func lost() throws {
        let host = try TestHost()
        let domain = try host.domain(1)
        let store = try domain.connectStore()
        #expect(domain.loss == nil)
        guard case .connected(let second) = domain.attemptStore() else {
            Issue.record("no connection to the store")
            return
        }
        second.close()
        host.host.stop()
        #expect(throws: StoreError.self) { while true { _ = try store.nextEvent(milliseconds: 5000) } }
        #expect(eventually(5000) { domain.loss == "the host has ended" }, "\(String(describing: domain.loss))")
        if case .never("the host has ended") = domain.attemptStore() {} else { Issue.record("\(domain.attemptStore())") }
    }

    @Test("L18: half a connection is none: when no more can be asked, the store's connection ends, too")
    func half() throws {
        let host = try TestHost()
        let domain = try host.domain(1)
        let store = try domain.connectStore()
        domain.connection.requests.fail("tried")
        #expect(throws: StoreError.self) { while true { _ = try store.nextEvent(milliseconds: 5000) } }
        #expect(domain.loss == "tried")
        // One that is made meanwhile ends likewise.
        let (near, far) = try StreamSocket.pair()
        domain.connection.requests.accompany(near)
        #expect(try StreamSocket.receive(far.rawValue, capacity: 1, wait: true).isEmpty)
    }

    /// The store is the host's: one that is slow is a host that is. It stands still altogether here.
    @Test("L21: while the host and its store stand still, data and bells go on, and whoever asks waits and is answered")
    func standsStill() throws {
        let scratch = try TemporaryDirectory()
        let daemon = try Child.probe(["host", scratch.path])
        #expect(try daemon.line() == "serving")
        let control = try LoopbackControl(runDirectory: scratch.path, time: .system)
        for domain in UInt16(0)...1 where try !control.domains().contains(DomainID(domain)) {
            _ = try control.createDomain(DomainID(domain))
        }
        let front = try LoopbackHypervisor(runDirectory: scratch.path, domain: DomainID(1), time: .system)
        let back = try LoopbackHypervisor(runDirectory: scratch.path, domain: .zero, time: .system)
        let offer = try front.offerPages(1, to: .zero, access: .readWrite)
        let grants = try back.mapGrants(offer.references, of: DomainID(1), access: .readWrite)
        let mine = try front.allocateChannel(for: .zero)
        let theirs = try back.bindChannel(remote: DomainID(1), port: mine.port)
        theirs.acknowledge()
        theirs.unmask()
        let store = try back.connectStore()
        daemon.signal(SIGSTOP)
        // All of its threads: a signal is heard a moment after it is sent.
        let tasks = "/proc/\(daemon.pid)/task"
        #expect(
            eventually(5000) {
                FileSystem.names(in: tasks).filter { Int32($0) != nil }
                    .allSatisfy { FileSystem.text(of: "\(tasks)/\($0)/stat")?.contains(") T ") == true }
            })
        let answered = Flag()
        let asking = Thread {
            if (try? store.directory("/")) != nil { answered.set() }
        }
        asking.start()
        for round in UInt8(1)...50 {
            offer.region.store(round, at: 100)
            mine.notify()
            #expect(try isReadable(theirs.descriptor, milliseconds: 1000))
            #expect(theirs.acknowledge())
            theirs.unmask()
            #expect(grants[0].region.load(grants[0].offset + 100, as: UInt8.self) == round)
        }
        usleep(50_000)
        #expect(!answered.isSet)
        daemon.signal(SIGCONT)
        #expect(eventually(5000) { answered.isSet })
        back.unmapGrants(grants)
        #expect(offer.withdraw())
    }

    @Test("a shortage of the kernel's is outlasted for half a minute; any other error is one at once")
    func shortage() throws {
        for shortage in [Errno.wouldBlock, .noBufferSpace, .noMemory] {
            let clock = ManualClock()
            var left = 9
            let outcome = try outlastingShortage(clock) { () throws(Errno) -> Int in
                if left == 0 { return 7 }
                left -= 1
                throw shortage
            }
            #expect(outcome == 7 && clock.sleeps == [1, 2, 4, 8, 16, 32, 50, 50, 50])
            let begun = clock.milliseconds
            #expect(throws: shortage) { try outlastingShortage(clock) { () throws(Errno) in throw shortage } }
            #expect((30_000...30_050).contains(clock.milliseconds - begun))
        }
        let clock = ManualClock()
        #expect(throws: Errno.brokenPipe) { try outlastingShortage(clock) { () throws(Errno) in throw Errno.brokenPipe } }
        #expect(clock.sleeps.isEmpty)
    }
}
