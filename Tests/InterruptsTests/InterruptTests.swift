// Vectors as counters: what leads where, what coalesces, what is lost (nothing), and what a hostile device can do (nothing).

import CLinux
import Glibc
import Hypervisor
import InProcessHypervisor
import LinuxSystem
import Synchronization
import Testing
import XenWire

@testable import Interrupts

/// Keeps what it is sent.
private final class Mailbox: InterruptMessagePort {
    let messages = Mutex<[InterruptMessage]>([])
    func send(_ message: InterruptMessage) { messages.withLock { $0.append(message) } }
    func take() -> [InterruptMessage] {
        messages.withLock { all in
            defer { all = [] }; return all
        }
    }
}

private func counter() throws -> Descriptor { Descriptor(owning: causeway_eventfd()) }

private func read(_ descriptor: Descriptor) -> UInt64 {
    var count: UInt64 = 0
    return Glibc.read(descriptor.rawValue, &count, 8) == 8 ? count : 0
}

@Suite(.timeLimit(.minutes(1)))
struct InterruptTests {
    let table = InterruptTable()

    @Test func eventChannelsRingOnceAndTheCountIsKept() throws {
        let host = InProcessHost()
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
        var random = SplitMix(seed)
        let capacity = 64
        let table = InterruptTable(capacity: capacity)
        struct Vector { var count: UInt64 = 0, isMasked = false, target = 0, sent: UInt64 = 0 }
        struct Device {
            var ends: (vectors: InterruptVectors, source: InterruptSource), entries: Range<Int>, model: [Vector], boxes: [Mailbox],
                events: [Descriptor]
        }
        var devices: [Device] = []
        var faults: UInt64 = 0
        /// What the obvious one does when a vector may have something to deliver; `fresh`: the count has just left zero, or the way was opened.
        func deliver(_ vector: inout Vector, fresh: Bool) {
            if vector.isMasked || vector.count == 0 { return }
            if vector.target == 1 && fresh { vector.sent += 1 }
            if vector.target == 2 { vector.sent += vector.count; vector.count = 0 }
        }
        for step in 0..<1500 {
            switch Int.random(in: 0..<12, using: &random) {
            case 0 where devices.count < 8:
                let count = Int.random(in: 1...20, using: &random)
                var size = 1
                while size < count { size *= 2 }
                let place = stride(from: 0, through: capacity - size, by: size).first { start in
                    !devices.contains { $0.entries.overlaps(start..<start + size) }
                }
                let made = try? table.attach(device: "d\(step)", vectors: count)
                #expect((made != nil) == (place != nil))
                guard let made, let place else { continue }
                #expect(try made.vectors.message(0).entry == UInt32(place))
                devices.append(
                    Device(
                        ends: made, entries: place..<place + size, model: Array(repeating: Vector(), count: count),
                        boxes: (0..<count).map { _ in Mailbox() }, events: try (0..<count).map { _ in try counter() }))
            case 1 where devices.count > 3:
                let gone = devices.remove(at: Int.random(in: devices.indices, using: &random))
                gone.ends.vectors.detach()
                #expect(!gone.ends.source.raise(0))
                faults += 1
            case 2, 3:
                // A message for any entry.
                guard !devices.isEmpty else { continue }
                let device = Int.random(in: devices.indices, using: &random), entry = Int.random(in: 0..<capacity, using: &random)
                let index = entry - devices[device].entries.lowerBound
                let isOwn = devices[device].model.indices.contains(index)
                #expect(devices[device].ends.source.write(InterruptMessage(entry: UInt16(entry), offset: 0)) == isOwn)
                if isOwn {
                    devices[device].model[index].count += 1
                    deliver(&devices[device].model[index], fresh: devices[device].model[index].count == 1)
                } else {
                    faults += 1
                }
            default:
                guard !devices.isEmpty else { continue }
                let device = Int.random(in: devices.indices, using: &random)
                let index = Int.random(in: devices[device].model.indices, using: &random)
                let (vectors, source) = devices[device].ends
                var vector = devices[device].model[index]
                switch Int.random(in: 0..<8, using: &random) {
                case 0...3:
                    #expect(source.raise(UInt32(index)))
                    vector.count += 1
                    deliver(&vector, fresh: vector.count == 1)
                case 4:
                    #expect(try vectors.take(index) == vector.count)
                    vector.count = 0
                case 5:
                    try vectors.mask(index)
                    vector.isMasked = true
                case 6:
                    try vectors.unmask(index)
                    let was = vector.isMasked
                    vector.isMasked = false
                    if was { deliver(&vector, fresh: true) }
                default:
                    vector.target = Int.random(in: 0...2, using: &random)
                    let message = InterruptMessage(address: UInt64(index), data: 0)
                    switch vector.target {
                    case 0: try vectors.route(index, to: .none)
                    case 1: try vectors.route(index, to: .message(message, to: devices[device].boxes[index]))
                    default: try vectors.route(index, to: .eventDescriptor(devices[device].events[index]))
                    }
                    deliver(&vector, fresh: true)
                }
                devices[device].model[index] = vector
                #expect(try vectors.pending(index) == vector.count)
                let got = UInt64(devices[device].boxes[index].take().count) + read(devices[device].events[index])
                #expect(got == vector.sent)
                devices[device].model[index].sent = 0
            }
        }
        #expect(table.takeFaults().count == faults && table.deviceCount == devices.count)
    }
}

/// A seeded generator, so that a failure can be had again.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }
}
