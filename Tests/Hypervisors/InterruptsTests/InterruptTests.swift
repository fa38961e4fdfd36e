// Vectors as counters: what leads where, what coalesces, what is lost (nothing), and what a hostile device can do
// (nothing).

import CLinux
import Glibc
import Hypervisor
import InProcess
@testable import Interrupts
import LinuxSystem
import Synchronization
import Testing
import TestSupport
import XenTypes

@Suite(.timeLimit(.minutes(1)))
struct InterruptTests {
    let table = InterruptTable()

    @Test func eventChannelsRingOnceAndTheCountIsKept() throws {
        let host = InProcessHost(time: .system)
        let theirs = try host.domain(1).allocateChannel(for: .zero)
        let ours = try host.domain(0).bindChannel(remote: DomainID(1), port: theirs.port)
        let (vectors, source) = try table.attach(device: "d", vectors: 4)
        try vectors.route(2, to: .eventChannel(ours))
        theirs.acknowledge()
        theirs.unmask()
        for _ in 0..<5 { #expect(source.raise(2)) }
        #expect(try waitReadable(theirs.descriptor.rawValue, milliseconds: 1000))
        #expect(theirs.acknowledge())
        #expect(try vectors.take(2) == 5 && vectors.take(2) == 0)
        theirs.unmask()
        #expect(try !waitReadable(theirs.descriptor.rawValue, milliseconds: 0))
        // After it was taken the next one rings again.
        source.raise(2)
        #expect(try waitReadable(theirs.descriptor.rawValue, milliseconds: 1000))
        #expect(try vectors.pending(2) == 1 && vectors.pending(1) == 0)
    }

    /// Another domain acknowledges its channel and knows of no count: each interrupt after that has to ring again.
    @Test func peersAreRungEachTime() throws {
        let host = InProcessHost(time: .system)
        let theirs = try host.domain(1).allocateChannel(for: .zero)
        let ours = try host.domain(0).bindChannel(remote: DomainID(1), port: theirs.port)
        let (vectors, source) = try table.attach(device: "d", vectors: 1)
        let line = try source.line(0)
        // What came before it was routed comes along.
        line.raise()
        try vectors.route(0, to: .peer(ours))
        for round in 0..<3 {
            #expect(try waitReadable(theirs.descriptor.rawValue, milliseconds: 1000), "round \(round)")
            theirs.acknowledge()
            theirs.unmask()
            #expect(try vectors.pending(0) == 0)
            line.raise()
            line.raise()
        }
        theirs.acknowledge()
        theirs.unmask()
        #expect(try !waitReadable(theirs.descriptor.rawValue, milliseconds: 0))
        #expect(throws: InterruptError.noSuchVector(1, vectors: 1)) { _ = try source.line(1) }
        vectors.detach()
        #expect(!line.raise())
    }

    /// Suspended with something pending, and resumed by another table, as in another process: it arrives there, once.
    @Test func suspendedHereAndResumedThere() throws {
        let (vectors, source) = try table.attach(device: "d", vectors: 3)
        let descriptors = [try counter(), try counter(), try counter()]
        try vectors.route(all: descriptors.map { .eventDescriptor($0) })
        source.raise(0)
        #expect(try vectors.suspend() == [0, 0, 0])
        for vector in [1, 1, 2, 1] as [UInt32] { source.raise(vector) }
        let pending = try vectors.suspend()
        #expect(pending == [0, 3, 1])
        #expect(descriptors.map { read($0) } == [1, 0, 0])
        let there = try InterruptTable().attach(device: "d", vectors: 3)
        _ = try there.vectors.suspend()
        try there.vectors.route(all: descriptors.map { .eventDescriptor($0) })
        there.source.raise(1)
        try there.vectors.resume(pending: pending)
        #expect(descriptors.map { read($0) } == [0, 4, 1])
        // A saved count that would run into the flags does not.
        try there.vectors.resume(pending: [.max, .max, .max])
        #expect(try (0..<3).allSatisfy { try !there.vectors.isMasked($0) } && there.source.raise(2))
        #expect(throws: InterruptError.badTargetCount(2, vectors: 3)) { try there.vectors.resume(pending: [1, 2]) }
        #expect(throws: InterruptError.badTargetCount(0, vectors: 3)) { try there.vectors.route(all: []) }
        there.vectors.detach()
        #expect(throws: InterruptError.detached) { _ = try there.vectors.suspend() }
        #expect(throws: InterruptError.detached) { try there.vectors.resume() }
        #expect(throws: InterruptError.detached) { try there.vectors.route(all: [.none, .none, .none]) }
    }

    @Test func eventDescriptorsCountThemselves() throws {
        let (vectors, source) = try table.attach(device: "d", vectors: 1)
        let descriptor = try counter()
        source.raise(0)
        source.raise(0)
        // What came before it was routed comes along.
        try vectors.route(0, to: .eventDescriptor(descriptor))
        for _ in 0..<3 { source.raise(0) }
        #expect(read(descriptor) == 5 && read(descriptor) == 0)
        #expect(try vectors.pending(0) == 0)
        try vectors.mask(0)
        for _ in 0..<7 { source.raise(0) }
        #expect(read(descriptor) == 0)
        #expect(try vectors.pending(0) == 7 && vectors.isMasked(0))
        try vectors.unmask(0)
        #expect(read(descriptor) == 7)
        #expect(try !vectors.isMasked(0))
    }

    /// A reader who does not read until the kernel's counter is full: the count stays, and comes when there is room.
    @Test func aFullDescriptorLosesNothing() throws {
        let (vectors, source) = try table.attach(device: "d", vectors: 1)
        let descriptor = try counter()
        var nearly = UInt64.max - 2
        #expect(write(descriptor.rawValue, &nearly, 8) == 8)
        try vectors.route(0, to: .eventDescriptor(descriptor))
        for _ in 0..<4 { source.raise(0) }
        #expect(try vectors.pending(0) == 3)
        #expect(read(descriptor) == UInt64.max - 1)
        source.raise(0)
        #expect(read(descriptor) == 4)
        #expect(try vectors.pending(0) == 0)
    }

    @Test func messagesAreSentOn() throws {
        let (vectors, source) = try table.attach(device: "d", vectors: 2)
        let mailbox = Mailbox()
        let message = InterruptMessage(address: 0xFEE0_1000, data: 0x4041)
        try vectors.route(1, to: .message(message, to: mailbox))
        for _ in 0..<3 { source.raise(1) }
        #expect(mailbox.take() == [message])
        #expect(try vectors.take(1) == 3)
        source.raise(1)
        #expect(mailbox.take() == [message])
        // Into another table: a device there, as a guest sees it.
        let guest = InterruptTable()
        let inner = try guest.attach(device: "guest's", vectors: 8)
        let descriptor = try counter()
        try inner.vectors.route(5, to: .eventDescriptor(descriptor))
        try vectors.route(0, to: .message(try inner.vectors.message(5), to: inner.source))
        source.raise(0)
        #expect(read(descriptor) == 1)
    }

    /// Each vector's message raises it and no other, also where the entry's number has its top bit.
    @Test func messagesNameTheirVector() throws {
        let table = InterruptTable()
        var devices: [(vectors: InterruptVectors, source: InterruptSource)] = []
        for index in 0..<32 { devices.append(try table.attach(device: "d\(index)", vectors: [2048, 2047, 1025][index % 3])) }
        #expect(throws: InterruptError.tableFull(vectors: 1, capacity: 65536)) { _ = try table.attach(device: "last", vectors: 1) }
        for (index, device) in devices.enumerated() {
            let last = device.vectors.count - 1
            #expect(try device.vectors.message(0).entry == UInt32(index * 2048))
            for vector in [0, 1, last] {
                #expect(device.source.write(try device.vectors.message(vector)))
                #expect(try device.vectors.take(vector) == 1)
            }
            #expect(try (0..<last).allSatisfy { try device.vectors.pending($0) == 0 })
        }
        #expect(table.takeFaults().count == 0)
    }

    @Test func remappableFormat() throws {
        for base in [0, 1, 0x7FFF, 0x8000, 0xFFFF, 0xA5A5] as [UInt16] {
            for offset in [0, 1, 31, 2047] as [UInt16] {
                let message = InterruptMessage(entry: base, offset: offset)
                #expect(message.address >> 20 == 0xFEE && message.address & 0x10 != 0)
                #expect(message.entry == UInt32(base) + UInt32(offset))
            }
        }
        // Without an offset the data says nothing.
        #expect(InterruptMessage(address: 0xFEE0_0010 | 5 << 5, data: 7).entry == 5)
        // The old format, other addresses, data beyond 16 bits.
        for wrong in [
            InterruptMessage(address: 0xFEE0_0000, data: 0x31), InterruptMessage(address: 0xFEF0_0018, data: 0),
            InterruptMessage(address: 0x1_FEE0_0018, data: 0), InterruptMessage(address: 0, data: 0),
            InterruptMessage(address: 0xFEE0_0018, data: 0x1_0000), InterruptMessage(address: .max, data: .max),
        ] { #expect(wrong.entry == nil) }
    }

    /// A device raises its own vectors and nothing else, whatever it writes wherever.
    @Test func aHostileDeviceRaisesItsOwnOnly() throws {
        let victim = try table.attach(device: "victim", vectors: 5)
        let evil = try table.attach(device: "evil", vectors: 3)
        let second = try table.attach(device: "second victim", vectors: 2048)
        let mailbox = Mailbox()
        for index in 0..<5 { try victim.vectors.route(index, to: .message(InterruptMessage(address: 1, data: 1), to: mailbox)) }
        var refused: UInt64 = 0
        for index in 0..<5 {
            #expect(!evil.source.write(try victim.vectors.message(index)))
            refused += 1
        }
        #expect(table.takeFaults().recent.map(\.description) == (0..<5).map { "evil: interrupt entry \($0) is another's" })
        #expect(!evil.source.raise(3) && !evil.source.raise(.max))
        #expect(table.takeFaults().recent.map(\.cause) == [.noSuchVector(3), .noSuchVector(.max)])
        var random = SplitMix(3)
        var own = 0, count: UInt64 = 0
        for round in 0..<200_000 {
            var address = UInt64.random(in: 0...0xF_FFFF, using: &random) | 0xFEE0_0000
            var data = round % 2 == 0 ? UInt32.random(in: 0...9, using: &random) : UInt32.random(in: 0...0x1_FFFF, using: &random)
            if round % 3 == 0 { address = 0xFEE0_0018 | UInt64.random(in: 0...40, using: &random) << 5 }
            if round % 1000 == 0 { address = .random(in: 0...UInt64.max, using: &random); data = .max }
            if evil.source.write(InterruptMessage(address: address, data: data)) { own += 1 } else { count += 1 }
        }
        let faults = table.takeFaults()
        #expect(faults.count == count && faults.recent.count == InterruptFaults.limit && own > 0)
        #expect(try (0..<3).reduce(0) { try $0 + evil.vectors.take($1) } == UInt64(own))
        #expect(mailbox.take().isEmpty)
        #expect(try (0..<5).allSatisfy { try victim.vectors.pending($0) == 0 })
        #expect(try (0..<2048).allSatisfy { try second.vectors.pending($0) == 0 })
    }

    /// After its detaching a device raises nothing, also where another has its entries.
    @Test func detachedDevices() throws {
        let first = try table.attach(device: "first", vectors: 2)
        let mailbox = Mailbox()
        try first.vectors.route(0, to: .message(InterruptMessage(address: 1, data: 1), to: mailbox))
        let message = try first.vectors.message(1)
        first.vectors.detach()
        let second = try table.attach(device: "second", vectors: 2)
        #expect(try second.vectors.message(1) == message)
        try second.vectors.route(1, to: .message(message, to: mailbox))
        #expect(!first.source.raise(0) && !first.source.write(message))
        #expect(table.takeFaults().recent == Array(repeating: InterruptFault(device: "first", cause: .detached), count: 2))
        #expect(mailbox.take().isEmpty)
        #expect(try second.vectors.pending(1) == 0)
        #expect(throws: InterruptError.detached) { try first.vectors.route(0, to: .none) }
        #expect(throws: InterruptError.noSuchVector(2, vectors: 2)) { try second.vectors.mask(2) }
        #expect(throws: InterruptError.noSuchVector(-1, vectors: 2)) { _ = try second.vectors.take(-1) }
        do { let third = try table.attach(device: "third", vectors: 1); withExtendedLifetime(third) {} }
        #expect(table.deviceCount == 1)
        for wrong in [0, -1, 2049] {
            #expect(throws: InterruptError.badVectorCount(wrong)) { _ = try table.attach(device: "x", vectors: wrong) }
        }
    }

    /// Vectors, targets and blocks of entries against an obvious model.
    @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
    func againstAModel(_ seed: UInt64) throws {
        var walk = InterruptWalk(seed)
        for step in 0..<1500 { try walk.step(step) }
        walk.end()
    }
}
