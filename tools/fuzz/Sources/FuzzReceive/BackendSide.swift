// netback's end: a frontend that posts any pages and changes its settings, a device with any frames. What the frontend
// finds on its ring is put together again by a strict reader; each frame must be one of the device's, whole and in
// order, or refused in each of its slots.

import DMA
import FuzzSupport
import Hypervisor
import LinuxSystem
@testable import NetworkBackend
import NetworkProtocol
import NetworkRig
import Packets
import SharedMemory
import SharedRing
import XenTypes

nonisolated(unsafe) private let rig = made { try NetworkRig(writable: 40, readable: 3) }
nonisolated(unsafe) private let rings = made { try rig.ring() }
nonisolated(unsafe) private let memories = fuzzedMemory.map { kind in made { try QueueMemory(name: "fuzz", options: kind) } }
nonisolated(unsafe) private let baseline = rig.host.usage

func fuzzBackend(_ input: inout ByteReader) {
    var session = Session(&input)
    while !input.isAtEnd { session.step(input.byte(), &input) }
    session.end()
}

/// A backend's receive ring between a frontend and a device.
private struct Session: ~Copyable {
    private let device: ScriptedQueue
    private let state: InterfaceState
    private let mappings: GrantMappings
    private var receive: GuestReceive
    private var frontend: StrictFrontend

    init(_ input: inout ByteReader) {
        let features = NetworkFeatures(rawValue: UInt32(input.byte()) & 31).consistent
        frontend = StrictFrontend(rig, rings.front.region, features)
        let memory = memories[Int(input.last) % memories.count]
        device = ScriptedQueue(memory.dma.bus)
        let key = NetworkQueueKeys(transmit: rings.front.references[0], receive: rings.front.references[0], port: EventPort(1))
        state = InterfaceState(
            NetworkRequestKeys(queues: [key], features: features, multicastControl: input.byte() & 1 != 0), features)
        mappings = GrantMappings(limit: 64, dma: memory.dma, hypervisor: rig.back, frontend: DomainID(1), random: .system)
        let queue = QueueContext(
            index: 0, time: rig.back.time, interface: state, hypervisor: rig.back, frontend: DomainID(1), mappings: mappings,
            memory: memory, device: device)
        receive = GuestReceive(BackRing(attaching: rings.back.region, ReceiveRing()), queue)
    }

    /// One thing that happens, by the input's next byte.
    mutating func step(_ code: UInt8, _ input: inout ByteReader) {
        switch code % 8 {
        case 0, 1: post(code, &input)
        case 2, 3: give(code, &input)
        case 4:
            let entries = (0...Int(code >> 4)).map { _ in
                GrantMappingEntry(reference: rig.reference(input.byte()), isReadOnly: false)
            }
            _ = code & 8 == 0 ? mappings.add(entries) : mappings.remove(entries)
        case 5:
            var scaling = state.scaling.separate
            scaling.algorithm = code & 8 == 0 ? .none : .toeplitz
            scaling.types = HashTypes(rawValue: UInt32(code >> 4))
            scaling.toeplitz = ToeplitzHash(key: input.take(Int(input.byte() % 41)))
            state.take(scaling)
        case 6:
            if code & 8 == 0 {
                receive.expire()
            } else {
                _ = state.setMulticast(
                    MACAddress(littleEndian: input.number(UInt64.self) & 0xFFFF_FFFF_FFFF | 1), isAdded: code & 16 == 0)
            }
        default: work()
        }
    }

    private mutating func post(_ code: UInt8, _ input: inout ByteReader) {
        for _ in 0...Int(code >> 4) where frontend.outstanding < 256 {
            frontend.post(
                ReceiveRequest(id: code & 8 == 0 ? UInt16(input.byte()) : input.number(), reference: rig.reference(input.byte())))
        }
        frontend.publish()
    }

    /// A frame at the device.
    private mutating func give(_ code: UInt8, _ input: inout ByteReader) {
        var offload = FrameOffload()
        var bytes = code & 0x80 == 0 ? cannedHeaders(input.byte()) : input.take(Int(input.byte() % 32))
        let size = code & 0x40 == 0 ? Int(input.byte()) : Int(input.number(UInt16.self))
        while bytes.count < size { bytes.append(UInt8(truncatingIfNeeded: bytes.count &* 31 &+ frontend.given.count)) }
        if bytes.isEmpty { bytes = [1] }
        if code & 0x20 != 0 {
            offload.checksum =
                code & 0x10 == 0
                ? .init(start: UInt16(input.byte()), field: UInt16(input.byte() % 20))
                : .init(start: input.number(), field: input.number())
        }
        if code & 0x08 != 0 {
            offload.segmentation = .init(
                type: input.byte() & 1 == 0 ? .tcp4 : .tcp6, size: max(1, input.number()), headerCount: input.number())
        }
        offload.isValidated = input.byte() & 1 != 0
        frontend.given.append(Given(bytes: bytes, offload: offload))
        device.frames.append((bytes, offload))
        receive.deviceIsReady = true
    }

    /// Lets the backend work until it is done, and reads what came of it.
    private mutating func work() {
        var turns = 0
        while receive.work() > 0 {
            turns += 1
            require(turns < 10_000, "no end of turns")
        }
        _ = receive.ring.publish()
        require(receive.fault == nil, receive.fault ?? "")
        frontend.read()
        let held = receive.holdsFrame ? 1 : 0
        require(
            Int(receive.statistics.received + receive.statistics.receiveDropped) + held == device.taken,
            "\(receive.statistics), \(held) held, \(device.taken) taken")
        let outstanding = frontend.outstanding
        require(receive.postedCount <= outstanding, "\(receive.postedCount) pages in hand of \(outstanding)")
    }

    func end() {
        mappings.removeAll()
        require(rig.host.usage == baseline, "\(rig.host.usage), at the start \(baseline)")
    }
}
