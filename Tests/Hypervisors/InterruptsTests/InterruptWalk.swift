// Devices that come and go, and vectors that are raised, masked, taken and routed at random, beside an obvious model of
// each.

import Hypervisor
import InProcess
@testable import Interrupts
import LinuxSystem
import Testing
import TestSupport
import XenTypes

struct InterruptWalk {
    /// A vector as it should be.
    private struct Vector {
        var count: UInt64 = 0
        var isMasked = false
        /// 0: nowhere, 1: a message, 2: an event descriptor, 3: a peer's event channel.
        var target = 0
        /// What must have arrived since it was looked at.
        var sent: UInt64 = 0

        /// When there may be something to deliver; `fresh`: the count has just left zero, or the way was opened.
        mutating func deliver(fresh: Bool) {
            if isMasked || count == 0 { return }
            if target == 1 && fresh { sent += 1 }
            if target == 2 {
                sent += count
                count = 0
            }
            if target == 3 {
                sent = 1
                count = 0
            }
        }

        mutating func raise() {
            count += 1
            deliver(fresh: count == 1)
        }

        mutating func unmask() {
            let was = isMasked
            isMasked = false
            if was { deliver(fresh: true) }
        }
    }

    private struct Device {
        let ends: (vectors: InterruptVectors, source: InterruptSource)
        let entries: Range<Int>
        var model: [Vector]
        let boxes: [Mailbox]
        let events: [Descriptor]
        let channels: [(near: any EventChannel, far: any EventChannel)]
    }

    private static let capacity = 64
    private let host = InProcessHost(time: .system)
    private let table = InterruptTable(capacity: Self.capacity)
    private var random: SplitMix
    private var devices: [Device] = []
    private var faults: UInt64 = 0

    init(_ seed: UInt64) { random = SplitMix(seed) }

    mutating func step(_ number: Int) throws {
        switch Int.random(in: 0..<12, using: &random) {
        case 0 where devices.count < 8: try attach(number)
        case 1 where devices.count > 3: detach()
        case 2, 3: if !devices.isEmpty { write() }
        default: if !devices.isEmpty { try work() }
        }
    }

    private mutating func attach(_ number: Int) throws {
        let count = Int.random(in: 1...20, using: &random)
        var size = 1
        while size < count { size *= 2 }
        let place = stride(from: 0, through: Self.capacity - size, by: size).first { start in
            !devices.contains { $0.entries.overlaps(start..<start + size) }
        }
        let made = try? table.attach(device: "d\(number)", vectors: count)
        #expect((made != nil) == (place != nil))
        guard let made, let place else { return }
        #expect(try made.vectors.message(0).entry == UInt32(place))
        devices.append(
            Device(
                ends: made, entries: place..<place + size, model: Array(repeating: Vector(), count: count),
                boxes: (0..<count).map { _ in Mailbox() }, events: try (0..<count).map { _ in try counter() },
                channels: try (0..<count).map { _ in try channel() }))
    }

    private func channel() throws -> (near: any EventChannel, far: any EventChannel) {
        let far = try host.domain(1).allocateChannel(for: .zero)
        let near = try host.domain(0).bindChannel(remote: DomainID(1), port: far.port)
        // A new channel is rung once.
        far.acknowledge()
        far.unmask()
        return (near, far)
    }

    private mutating func detach() {
        let gone = devices.remove(at: Int.random(in: devices.indices, using: &random))
        gone.ends.vectors.detach()
        #expect(!gone.ends.source.raise(0))
        faults += 1
    }

    /// A message for any entry.
    private mutating func write() {
        let device = Int.random(in: devices.indices, using: &random), entry = Int.random(in: 0..<Self.capacity, using: &random)
        let index = entry - devices[device].entries.lowerBound
        let isOwn = devices[device].model.indices.contains(index)
        #expect(devices[device].ends.source.write(InterruptMessage(entry: UInt16(entry), offset: 0)) == isOwn)
        if isOwn { devices[device].model[index].raise() } else { faults += 1 }
    }

    /// One vector: it is raised, or its driver does something, and what arrived is looked at.
    private mutating func work() throws {
        let device = Int.random(in: devices.indices, using: &random)
        let index = Int.random(in: devices[device].model.indices, using: &random)
        let (vectors, source) = devices[device].ends
        var vector = devices[device].model[index]
        switch Int.random(in: 0..<8, using: &random) {
        case 0...3:
            #expect(source.raise(UInt32(index)))
            vector.raise()
        case 4:
            #expect(try vectors.take(index) == vector.count)
            vector.count = 0
        case 5:
            try vectors.mask(index)
            vector.isMasked = true
        case 6:
            try vectors.unmask(index)
            vector.unmask()
        default:
            vector.target = Int.random(in: 0...3, using: &random)
            try route(devices[device], index, vector.target)
            vector.deliver(fresh: true)
        }
        #expect(try vectors.pending(index) == vector.count)
        let got = UInt64(devices[device].boxes[index].take().count) + read(devices[device].events[index]) + rings(device, index)
        #expect(got == vector.sent)
        vector.sent = 0
        devices[device].model[index] = vector
    }

    /// 1 if the peer's channel has rung.
    private func rings(_ device: Int, _ index: Int) -> UInt64 {
        let far = devices[device].channels[index].far
        defer { far.unmask() }
        return far.acknowledge() ? 1 : 0
    }

    private func route(_ device: Device, _ index: Int, _ target: Int) throws {
        let message = InterruptMessage(address: UInt64(index), data: 0)
        switch target {
        case 0: try device.ends.vectors.route(index, to: .none)
        case 1: try device.ends.vectors.route(index, to: .message(message, to: device.boxes[index]))
        case 2: try device.ends.vectors.route(index, to: .eventDescriptor(device.events[index]))
        default: try device.ends.vectors.route(index, to: .peer(device.channels[index].near))
        }
    }

    func end() { #expect(table.takeFaults().count == faults && table.deviceCount == devices.count) }
}
