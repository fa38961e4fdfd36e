// Any slots on a transmit ring, from any pages, mapped or copied, to a device that takes, refuses or has no room: what
// is sent and answered against the reference.

import DMA
import FuzzSupport
import Hypervisor
import LinuxSystem
@testable import NetworkBackend
import NetworkDevices
import NetworkProtocol
import NetworkRig
import Packets
import SharedMemory
import SharedRing
import XenTypes

nonisolated(unsafe) let rig = made { try NetworkRig(writable: 12, readable: 12) }
nonisolated(unsafe) private let rings = made { try rig.ring() }
nonisolated(unsafe) private let memories = fuzzedMemory.map { kind in made { try QueueMemory(name: "fuzz", options: kind) } }
nonisolated(unsafe) private let baseline = rig.host.usage

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(start, count)
    var session = Session(&input)
    while !input.isAtEnd, !session.isDead { session.step(input.byte(), &input) }
    if !session.isDead { session.run() }
    session.end()
    return 0
}

/// A backend's transmit ring between a frontend that sends anything and a device.
private struct Session: ~Copyable {
    private let device: ScriptedQueue
    private let mappings: GrantMappings
    private var transmit: GuestTransmit
    private var frontend = Frontend(rings.front.region)
    private let isControlled: Bool
    /// Groups that the frontend asked for.
    private var wanted = Set<UInt64>()
    private(set) var isDead = false

    init(_ input: inout ByteReader) {
        let mask: UInt32 = input.number()
        isControlled = input.byte() & 1 != 0
        rig.writable.region.fill(0, count: rig.writable.region.byteCount, with: 0x11)
        rig.readable.region.fill(0, count: rig.readable.region.byteCount, with: 0x22)
        let memory = memories[Int(input.last) % memories.count]
        device = ScriptedQueue(memory.dma.bus)
        device.isBatched = input.last & 4 != 0
        let keys = NetworkRequestKeys(
            queues: [NetworkQueueKeys(transmit: rings.front.references[0], receive: rings.front.references[0], port: EventPort(1))],
            multicastControl: isControlled)
        mappings = GrantMappings(limit: 24, dma: memory.dma, hypervisor: rig.back, frontend: DomainID(1), random: .system)
        for index in 0..<24 where mask >> UInt32(index) & 1 != 0 {
            let reference = index < 12 ? rig.writable.references[index] : rig.readable.references[index - 12]
            require(
                mappings.add([GrantMappingEntry(reference: reference, isReadOnly: true)]) == [.success],
                "a page could not be mapped")
        }
        let queue = QueueContext(
            index: 0, time: rig.back.time, interface: InterfaceState(keys, .all), hypervisor: rig.back, frontend: DomainID(1),
            mappings: mappings, memory: memory, device: device)
        transmit = GuestTransmit(BackRing(attaching: rings.back.region, TransmitRing()), queue)
    }

    /// One thing that happens, by the input's next byte.
    mutating func step(_ code: UInt8, _ input: inout ByteReader) {
        switch code % 8 {
        case 0, 1, 2: frontend.push(bytes(of: request(code, &input)))
        case 3:
            var bytes = input.take(8) + [0, 0, 0, 0]
            if code & 0x80 == 0 { bytes[0] = bytes[0] % 6 }
            if code & 0x40 == 0 { bytes[4] = 1 + bytes[4] % 2 }
            frontend.push(bytes)
        case 4:
            let page = Int(input.byte() % 24)
            let region = page < 12 ? rig.writable.region : rig.readable.region
            let bytes = code & 0x80 == 0 ? cannedHeaders(input.byte()) : input.take(Int(input.byte() % 64))
            let offset = code & 0x40 == 0 ? 0 : Int(input.number(UInt16.self) % 3900)
            region.write(bytes, at: (page % 12) * 4096 + offset)
        case 5: device.answers.append([FrameSent.full, .failed(.ioError), .sent][Int(code >> 3) % 3])
        case 6:
            let reference = rig.reference(input.byte()).rawValue
            frontend.push((0..<4).map { UInt8(truncatingIfNeeded: reference >> (8 * UInt32($0))) } + input.take(8))
        default: run()
        }
    }

    /// A request: near what is allowed, so that most get far.
    private func request(_ code: UInt8, _ input: inout ByteReader) -> TransmitRequest {
        let reference = rig.reference(input.byte()).rawValue
        let offset = code & 0x80 == 0 ? UInt16(input.byte()) : input.number()
        let size = code & 0x40 == 0 ? UInt16(input.byte()) : code & 0x20 == 0 ? input.number(UInt16.self) & 0xFFF : input.number()
        let flags = UInt16(input.byte()) & (code & 0x10 == 0 ? 0xF : 0x7)
        return TransmitRequest(
            reference: GrantReference(reference), offset: offset, flags: TransmitFlags(rawValue: flags),
            id: UInt16(frontend.pushed % 256), size: size)
    }

    /// Publishes, lets the backend work until it is done, and compares.
    mutating func run() {
        let slots = frontend.publish()
        var expected = Expected(script: device.answers, isControlled: isControlled, wanted: wanted)
        device.clearSent()
        work()
        for outcome in outcomes(slots) { expected.take(outcome) }
        wanted = expected.wanted
        isDead = expected.isDead
        compare(expected)
    }

    private mutating func work() {
        var turns = 0
        while turns < 1000 {
            turns += 1
            if transmit.isBlocked {
                transmit.sendAll()
                continue
            }
            let (taken, _) = transmit.work()
            if taken == 0, !transmit.isBlocked { break }
        }
        require(turns < 1000, "no end of turns")
        _ = transmit.ring.publish()
    }

    private mutating func compare(_ expected: Expected) {
        let found = frontend.answers()
        require((transmit.fault != nil) == isDead, "fault \(transmit.fault ?? "none"), expected \(isDead)")
        let (sent, frames) = (device.sent, expected.frames)
        require(sent.count == frames.count, "\(sent.count) frames sent, expected \(frames.count)")
        for (index, frame) in frames.enumerated() {
            require(
                sent[index].bytes == frame.bytes,
                "frame \(index): \(sent[index].bytes.prefix(80)), expected \(frame.bytes.prefix(80))")
            require(sent[index].offload == frame.offload, "frame \(index): \(sent[index].offload), expected \(frame.offload)")
        }
        let key = { (list: [(id: Int, status: Int)]) in list.map { $0.id * 8 + $0.status + 2 }.sorted() }
        require(key(found) == key(expected.answers), "answers \(found), expected \(expected.answers)")
    }

    func end() {
        mappings.removeAll()
        require(rig.host.usage == baseline, "\(rig.host.usage), at the start \(baseline)")
    }
}
