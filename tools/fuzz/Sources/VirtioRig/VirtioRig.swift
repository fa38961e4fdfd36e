// A virtqueue whose driver writes what it likes, as a list of operations: what our device's end takes, refuses and
// announces against the tests' slow and obvious one, which reads the same bytes.

import FuzzSupport
import SharedMemory
import VirtioModel
import VirtioRing
import VirtioWire

private func region(_ pages: Int, writable: Bool = true) -> SharedRegion {
    made {
        guard !writable else { return try SharedRegion(anonymous: 4096 * pages) }
        let sealed = try SealedMemory("read-only", byteCount: 4096 * pages, final: true)
        return try SharedRegion(mapping: sealed.descriptor, byteCount: 4096 * pages, writable: false)
    }
}

/// The driver's memory and where its ring is in it.
package struct VirtioRig: Sendable {
    package static let data: UInt64 = 0x1_0000
    static let apart: UInt64 = 0x2_0000
    static let readOnly: UInt64 = 0x3_0000
    static let ring: UInt64 = 0x4000_0000

    package let map: GuestMap
    package let slow: SlowMemory
    let ringRegion: SharedRegion
    let ringBytes: Int
    let parts: [SlowMemory.Part]

    /// Two parts that touch, one apart, one to be read only, and the ring.
    package init(ringPages: Int) {
        ringRegion = region(ringPages)
        ringBytes = 4096 * ringPages
        parts = [
            .init(Self.data, 4096, region(1)), .init(Self.data + 4096, 4096, region(1)), .init(Self.apart, 4096, region(1)),
            .init(Self.readOnly, 4096, region(1, writable: false)), .init(Self.ring, UInt64(ringBytes), ringRegion),
        ]
        slow = SlowMemory(parts)
        let extents = parts.map { GuestMap.Extent(address: $0.address, byteCount: $0.count, region: $0.region, offset: $0.offset) }
        map = made { try GuestMap(extents) }
    }

    package func clear() { for part in parts where part.region.isWritable { part.region.fill(0, count: part.region.byteCount) } }

    package func areas(_ size: Int, _ features: VirtioFeatures) -> VirtqueueAreas {
        VirtqueueAreas(in: ringRegion, size: size, features: features)
    }

    package func queue(_ areas: VirtqueueAreas, _ features: VirtioFeatures) -> SlowQueue {
        SlowQueue(
            size: areas.size, descriptors: Self.ring + UInt64(areas.descriptors.offset),
            driver: Self.ring + UInt64(areas.driver.offset), device: Self.ring + UInt64(areas.device.offset),
            tables: features.contains(.indirectDescriptors), events: features.contains(.eventIndex))
    }

    /// An address near something.
    package static func address(_ input: inout ByteReader) -> UInt64 {
        let choice = input.byte()
        let near = [data, data + 4096, data + 8192, apart, apart + 4096, readOnly, ring, 0, 1 << 63, .max][Int(choice % 10)]
        return near &+ UInt64(bitPattern: Int64(Int8(bitPattern: input.byte()))) &* (choice & 0x80 == 0 ? 1 : 16)
    }

    /// A length that may fit.
    package static func length(_ input: inout ByteReader) -> UInt32 {
        let choice = input.byte()
        switch choice & 3 {
        case 0: return UInt32(choice >> 2)
        case 1: return 16 * UInt32(choice >> 2)
        case 2: return [4095, 4096, 4097, 8192, 8193, 16 * 1024, 16 * 1025, .max][Int(choice >> 2) % 8]
        default: return input.number()
        }
    }

    /// A word of eight bytes anywhere in the driver's memory: rings, tables, data.
    package func scribble(_ input: inout ByteReader) {
        let writable = parts.filter(\.region.isWritable)
        let part = writable[Int(input.byte()) % writable.count]
        part.region.store(input.number(UInt64.self), at: Int(input.number(UInt16.self)) % (part.region.byteCount - 8))
    }

    /// An entry of a table at a multiple of 16 of the data, near its beginning or at the edge of two parts.
    package func describe(_ input: inout ByteReader, isPacked: Bool) {
        let place = input.byte()
        let at = (place & 0x80 == 0 ? Self.data : Self.data + 4096 - 24) + 16 * UInt64(place & 7)
        slow.put(Self.address(&input), 8, at: at)
        slow.put(UInt64(Self.length(&input)), 4, at: at + 8)
        let (flags, other) = (UInt64(input.byte() & 0xF), UInt64(input.byte() & 0xF))
        slow.put(isPacked ? other : flags, 2, at: at + 12)
        slow.put(isPacked ? flags : other, 2, at: at + 14)
    }
}

/// Our end and the slow one, side by side.
package struct VirtioPair<Device: DeviceRing & ~Copyable, Slow: SlowDevice>: ~Copyable {
    package let rig: VirtioRig
    package var device: Device
    package var slow: Slow
    package var chain = DescriptorChain()
    package var out: [ChainTicket] = []

    package init(_ rig: VirtioRig, _ device: consuming Device, _ slow: Slow) {
        self.rig = rig
        self.device = device
        self.slow = slow
    }

    package mutating func take() {
        let expected = slow.take()
        var found = SlowTaken.none
        do throws(VirtqueueError) {
            if try device.take(into: &chain, from: rig.map) == .chain {
                out.append(chain.ticket)
                found = .chain(
                    SlowChain(
                        id: Int(chain.ticket.id), entries: Int(chain.ticket.entries),
                        runs: chain.runs.enumerated().map {
                            SlowRun(address: $1.address, count: UInt64($1.byteCount), isWritable: $0 >= chain.readableCount)
                        }))
            }
        } catch {
            found = .refused
            require(!error.description.isEmpty && error == device.fault, "\(error)")
        }
        require(found == expected, "took \(found), expected \(expected)")
        if case .chain = found { reach() }
    }

    /// Any chain's header and status can be looked for, whatever it is.
    private func reach() {
        var header = BlockRequestHeader(.read)
        let reach = chain.load(&header, from: rig.map)
        require(reach == (chain.readableBytes >= 16 ? .here : .short), "header \(reach) of \(chain)")
        if reach == .here {
            var bytes: [UInt8] = []
            for run in chain.readableRuns {
                for place in 0..<UInt64(run.byteCount) where bytes.count < 16 { bytes.append(rig.slow.byte(run.address + place)) }
            }
            require(header.array == bytes, "header \(header)")
        }
    }

    package mutating func put(_ choice: UInt8, written: UInt32) {
        guard !out.isEmpty else { return }
        let ticket = out.remove(at: Int(choice) % out.count)
        slow.put(Int(ticket.id), Int(ticket.entries), written: written)
        device.put(ticket, written: written)
    }

    /// - Parameter isMeant: the driver's event lies in the ring.
    package mutating func publish(isMeant: Bool) {
        let expected = slow.publish(storing: false)
        let signal = device.publish()
        require(signal == expected || !isMeant, "signal \(signal), expected \(expected)")
    }

    package mutating func arm() {
        let expected = slow.look()
        let isThere = device.armAndRecheck()
        require(isThere == expected, "armAndRecheck \(isThere), expected \(expected)")
    }

    package func check() {
        require(device.unanswered == slow.unanswered && out.count == slow.unanswered, "unanswered \(device.unanswered)")
        require((device.fault != nil) == slow.isBroken, "fault \(String(describing: device.fault))")
    }
}
