// Section K of the attack list: what is possible only because the domains are processes of one host. The attackers are
// processes of their own that speak the daemon's protocol raw.

import Foundation
import Hypervisor
import HypervisorRules
import LinuxSystem
@testable import Loopback
import SharedMemory
import Testing
import TestSupport
import XenTypes

@Suite(.serialized, .timeLimit(.minutes(2))) struct AttackTests {
    let host: TestHost

    init() throws { host = try TestHost() }

    private func evilDomain(_ arguments: [String]) throws -> Child {
        let (_, socket) = try host.control.createDomain(lifetime: .withSocket)
        return try Child.evil(arguments, socket: socket)
    }

    @Test func E1_E2_aPeerCanNeitherResizeARunNorReachBeyondIt() throws {
        let victim = try host.domain(0)
        let (domain, socket) = try host.control.createDomain(lifetime: .withSocket)
        let offer = try victim.offerPages(4, to: domain, access: .readWrite)
        // What other pages of this process hold, for the same peer's eyes or for another's.
        let secret = try victim.offerPages(4, to: DomainID(99), access: .readWrite)
        secret.region.write(Array("SECRET".utf8), at: 0)
        let evil = try Child.evil(["writable", "0"] + offer.references.map(\.description), socket: socket)
        // Under load: a shrunk file would end this process by SIGBUS.
        let isDone = Flag()
        let load = Thread { while !isDone.isSet { for page in 0..<4 { offer.region.fill(page * 4096, count: 4096, with: 7) } } }
        load.start()
        defer { isDone.set() }
        let report = try evil.report()
        #expect(report["shrink"] as? String == "EPERM")
        #expect(report["grow"] as? String == "EPERM")
        #expect(report["unseal"] as? String == "EPERM")
        #expect(report["statuses"] as? [Int] == [0, 0, 0, 0])
        #expect(report["descriptors"] as? Int == 1)
        #expect(report["size"] as? Int == 4 * 4096)
        #expect(report["reached"] as? Int == 4 * 4096)
        #expect(report["canary"] as? Bool == false)
    }

    @Test func E3_E4_aReadOnlyGrantStaysReadOnlyForSameAndOtherUsers() throws {
        let (owner, ownerSocket) = try host.control.createDomain(lifetime: .withSocket)
        let (peer, peerSocket) = try host.control.createDomain(lifetime: .withSocket)
        let offering = try Child.probe(["offer", peer.description, "2", "ro"], socket: ownerSocket)
        let references = try #require(try offering.line()).split(separator: " ").map(String.init)
        let report = try Child.evil(["readonly", owner.description] + references, socket: peerSocket).report()
        #expect(report["map for writing"] as? Int == Int(GrantStatus.generalError.rawValue))
        #expect(report["map for reading"] as? Int == 0)
        #expect(report["mmap"] as? String == "EACCES")
        #expect(report["mprotect"] as? String == "EACCES")
        #expect(report["pwrite"] as? String == "EBADF")
        #expect(report["sendfile"] as? String == "EBADF")
        #expect(report["splice"] as? String == "EBADF")
        #expect(report["punch"] as? String == "EBADF")
        #expect(report["reopened mmap"] as? String == "EPERM")
        #expect(report["reopened pwrite"] as? String == "EPERM")
        #expect(report["reopened punch"] as? String == "EPERM")
        #expect(report["reopened truncate"] as? String == "EPERM")
        #expect(report["reopen as another user"] as? String == "EACCES")
        #expect(report["owner still writes"] as? Bool == true)
    }

    @Test func E5_E6_aPeerCanNeitherSaturateNorEatOurBell() throws {
        let victim = try host.domain(0)
        let (domain, socket) = try host.control.createDomain(lifetime: .withSocket)
        let channel = try victim.allocateChannel(for: domain)
        let evil = try Child.evil(["bell", "0", channel.port.description], socket: socket)
        let report = try evil.report()
        #expect(report["eat"] as? String == "EBADF")
        #expect(report["forge"] as? String == "EBADF")
        #expect(report["saturated"] as? Bool == true)
        #expect(report["eat as another user"] as? String == "EACCES")
        // Its ring is there, however often it rang, and one acknowledgement takes all of it.
        #expect(try isReadable(channel.descriptor))
        #expect(channel.acknowledge())
        #expect(try !isReadable(channel.descriptor))
        // It does not read: our rings return at once all the same, and it still wakes.
        let start = Date()
        for _ in 0..<100_000 { channel.notify() }
        #expect(Date().timeIntervalSince(start) < 5)
        #expect(try isReadable(channel.descriptor, milliseconds: 5000))
    }

    @Test func E7_aStormCostsAFewWakeupsAndDoesNotDelayAnotherPort() throws {
        let victim = try host.domain(0)
        let (stormer, stormSocket) = try host.control.createDomain(lifetime: .withSocket)
        let (good, goodSocket) = try host.control.createDomain(lifetime: .withSocket)
        let storm = try victim.allocateChannel(for: stormer)
        let useful = try victim.allocateChannel(for: good)
        let stormChild = try Child.probe(["storm", "0", storm.port.description], socket: stormSocket)
        let goodChild = try Child.probe(["bind", "0", useful.port.description], socket: goodSocket)
        _ = try #require(try stormChild.line())
        _ = try #require(try goodChild.line())
        // One thread serves both, as a driver does: it waits only for ports that are unmasked.
        var throttle = LateEOI()
        var unmaskAt = Date()
        var wakeups = 0, round = 0
        var slowest = 0.0
        let end = Date().addingTimeInterval(3)
        useful.notify()
        var sent = Date()
        while Date() < end {
            if Date() >= unmaskAt, try isReadable(storm.descriptor) {
                storm.acknowledge()
                wakeups += 1
                unmaskAt = Date().addingTimeInterval(Double(throttle.handled(foundWork: false)) / 1e6)
                storm.unmask()
            }
            if try isReadable(useful.descriptor, milliseconds: 5) {
                useful.acknowledge()
                useful.unmask()
                slowest = max(slowest, Date().timeIntervalSince(sent))
                round += 1
                sent = Date()
                useful.notify()
            }
        }
        // 1 free, then 4, 8, 16 … 1000 ms: eleven in three seconds.
        #expect(wakeups <= 14)
        #expect(round > 100)
        #expect(slowest < 0.5)
        #expect(throttle.spurious == UInt64(wakeups))
    }

    @Test func E8_onlySealedMemoryOfTheRightSizeIsMapped() throws {
        let cache = RunCache()
        let view = RunView(run: RunID(1), access: .readWrite)
        let good = try SealedMemory("t", byteCount: 8192, final: true)
        let directory = host.directory
        let file = try Descriptor.open("\(directory)/file", O_RDWR | O_CREAT)
        #expect(ftruncate(file.rawValue, 8192) == 0)
        #expect(!cache.add(view, file, pages: 2))
        #expect(!cache.add(view, try WakePipe().reader, pages: 2))
        #expect(!cache.add(view, try Descriptor.open("/dev/zero", O_RDWR), pages: 2))
        #expect(!cache.add(view, good.descriptor, pages: 3))
        #expect(!cache.add(view, good.descriptor, pages: 0))
        #expect(!cache.add(view, good.descriptor, pages: Int(UInt32.max)))
        #expect(cache.add(view, good.descriptor, pages: 2))
        #expect(cache.count == 1)
    }

    @Test func E8_E9_descriptorsAndJunkCostTheSenderItsConnectionAndNothingElse() throws {
        // A daemon of its own, so that its descriptors can be counted from outside.
        let directory = NSTemporaryDirectory() + "causeway-\(UUID().uuidString.prefix(8))"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let daemon = try Child.probe(["host", directory])
        #expect(try daemon.line() == "serving")
        let control = try LoopbackControl(runDirectory: directory, time: .system)
        let before = try control.usage()
        func open() throws -> Int { try FileManager.default.contentsOfDirectory(atPath: "/proc/\(daemon.pid)/fd").count }
        let descriptors = try open()
        let report = try Child.evil(["descriptors", directory]).report()
        #expect(report.count == 12)
        for (label, value) in report where label != "rounds" { #expect(value as? Bool == true, "\(label)") }
        #expect(report["rounds"] as? Int == 300)
        #expect(try control.usage() == before)
        #expect(try eventually(5000) { try open() == descriptors })
    }

    @Test func E10_aStoppedPeerKeepsNobodyWaiting() throws {
        let victim = try host.domain(0)
        let (domain, socket) = try host.control.createDomain(lifetime: .withSocket)
        let channel = try victim.allocateChannel(for: domain)
        let peer = try Child.probe(["bind", "0", channel.port.description], socket: socket)
        _ = try #require(try peer.line())
        var slowest = 0.0
        for round in 0..<300 {
            channel.notify()
            usleep(UInt32(round * 7 % 500))
            peer.signal(SIGSTOP)
            let start = Date()
            for _ in 0..<20 { channel.notify() }
            channel.acknowledge()
            let offer = try victim.offerPages(1, to: domain, access: .readWrite)
            _ = try host.usage
            offer.withdraw()
            slowest = max(slowest, Date().timeIntervalSince(start))
            peer.signal(SIGCONT)
        }
        #expect(slowest < 1)
        channel.notify()
        #expect(try isReadable(channel.descriptor, milliseconds: 2000))
    }

    @Test func E11_theSocketDecidesWhoOneIs() throws {
        let (_, socket) = try host.control.createDomain(DomainID(1), lifetime: .withSocket)
        _ = try host.control.createDomain(DomainID(2))
        _ = try host.control.createDomain(DomainID(3), user: 4242)
        chmod(host.directory, 0o755)
        let report = try Child.evil(["identity", host.directory, "3"], socket: socket).report()
        #expect(report["accepted on a given socket"] as? [Int] == [])
        #expect(report["control on a given socket"] as? Bool == false)
        #expect(report["own"] as? Bool == true)
        #expect(report["create"] as? Bool == false)
        #expect(report["destroy"] as? Bool == false)
        #expect(report["usage of another"] as? Bool == false)
        #expect(report["accepted as another user"] as? [Int] == [3])
        #expect(report["control as another user"] as? Bool == false)
        #expect(report["before hello"] as? Bool == false)
        #expect(try host.control.domains().contains(DomainID(2)))
    }

    @Test func E12_aHardenedProcessIsOutOfReachOfItsOwnUser_needsRoot() throws {
        #expect(getuid() == 0)
        let attempts = ["process_vm_readv", "/proc/PID/mem", "/proc/PID/fd", "pidfd_getfd", "ptrace"]
        func place(_ victim: Child) throws -> [String] {
            try #require(try victim.line()).split(separator: " ").map(String.init)
        }
        // That the attacks work at all.
        let plain = try Child.probe(["victim", "0"])
        let open = try Child.evil(["reach"] + place(plain) + ["0"]).report()
        for attempt in attempts { #expect(open[attempt] as? String == "ok", "\(attempt)") }
        // The same user.
        let hardened = try Child.probe(["victim", "4243"])
        let location = try place(hardened)
        let closed = try Child.evil(["reach"] + location + ["4243"]).report()
        for attempt in attempts { #expect(["EPERM", "EACCES"].contains(closed[attempt] as? String), "\(attempt)") }
        // Hardened both, and under one user from the start, so that no change of user made them undumpable.
        let twin = try Child.probe(["victim", "self"])
        let denied = try Child(
            Child.probePath, ["exec", "0", "/usr/bin/env", "python3", Child.evilPath, "reach"] + place(twin) + ["0"]
        ).report()
        // Root's processes may list the descriptors of an undumpable one, whose entries are root's; they may not open
        // them.
        for attempt in attempts where attempt != "/proc/PID/fd" {
            #expect(["EPERM", "EACCES"].contains(denied[attempt] as? String), "\(attempt)")
        }
        // A hardened attacker against a process that is not.
        let other = try Child.probe(["victim", "0"])
        let attacker = try Child(
            Child.probePath, ["exec", "0", "/usr/bin/env", "python3", Child.evilPath, "reach"] + place(other) + ["0"])
        let filtered = try attacker.report()
        for attempt in ["process_vm_readv", "pidfd_getfd", "ptrace"] {
            #expect(filtered[attempt] as? String == "EPERM", "\(attempt)")
        }
        other.end()
    }
}

final class Flag: Sendable {
    private let value = Lock()
    private final class Lock: @unchecked Sendable {
        let lock = NSLock()
        var isSet = false
    }
    var isSet: Bool { value.lock.withLock { value.isSet } }
    func set() { value.lock.withLock { value.isSet = true } }
}
