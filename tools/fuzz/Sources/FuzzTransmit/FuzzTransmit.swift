// Any slots on a transmit ring, from any pages, mapped or copied, to a device that takes, refuses or has no room: what is sent and answered
// against the reference.

import DMA
import FuzzSupport
import HostDevices
import Hypervisor
import LinuxSystem
@testable import NetworkBackend
import NetworkRig
import Packets
import SharedMemory
import SharedRing
import XenBus
import XenWire

nonisolated(unsafe) private let rig = try! NetworkRig(writable: 12, readable: 12)
nonisolated(unsafe) private let rings = try! rig.ring()
nonisolated(unsafe) private let memories = fuzzedMemory.map { try! QueueMemory(name: "fuzz", options: $0) }
nonisolated(unsafe) private let baseline = rig.host.usage

/// The frontend's end, byte by byte.
private struct Frontend {
    let region: SharedRegion
    var pushed = 0
    var published = 0
    var answered = 0
    var pending: [RawSlot] = []

    init(_ region: SharedRegion) {
        self.region = region
        region.fill(0, count: 4096)
    }

    mutating func push(_ bytes: [UInt8]) {
        guard pushed - answered < 256 else { return }
        region.write(bytes, at: 64 + pushed % 256 * 12)
        pending.append(RawSlot(bytes: bytes))
        pushed += 1
    }

    mutating func publish() -> [RawSlot] {
        published = pushed
        region.storeReleasing(UInt32(pushed), at: RingHeader.requestProduced)
        defer { pending = [] }
        return pending
    }

    /// All answers that are there: id and status.
    mutating func answers() -> [(id: Int, status: Int)] {
        let produced = Int(region.loadAcquiring(RingHeader.responseProduced))
        require(produced >= answered && produced <= published, "\(produced) answers to \(published) slots")
        defer { answered = produced }
        return (answered..<produced).map { index in
            let bytes = region.bytes(at: 64 + index % 256 * 12, count: 4)
            return (Int(bytes[0]) | Int(bytes[1]) << 8, Int(Int16(bitPattern: UInt16(bytes[2]) | UInt16(bytes[3]) << 8)))
        }
    }
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(start, count)
    let mask: UInt32 = input.number()
    let isControlled = input.byte() & 1 != 0
    rig.writable.region.fill(0, count: rig.writable.region.byteCount, with: 0x11)
    rig.readable.region.fill(0, count: rig.readable.region.byteCount, with: 0x22)
    var frontend = Frontend(rings.front.region)
    let memory = memories[Int(input.last) % memories.count]
    let device = ScriptedQueue(memory.dma.bus)
    device.isBatched = input.last & 4 != 0
    let keys = NetworkRequestKeys(
        queues: [NetworkQueueKeys(transmit: rings.front.references[0], receive: rings.front.references[0], port: EventPort(1))],
        multicastControl: isControlled)
    let state = InterfaceState(keys, .all)
    let mappings = GrantMappings(limit: 24, dma: memory.dma, hypervisor: rig.back, frontend: DomainID(1))
    for index in 0..<24 where mask >> UInt32(index) & 1 != 0 {
        let reference = index < 12 ? rig.writable.references[index] : rig.readable.references[index - 12]
        require(
            mappings.add([GrantMappingEntry(reference: reference, isReadOnly: true)]) == [.success], "a page could not be mapped")
    }
    var core = TransmitCore(
        ring: BackRing(attaching: rings.back.region, TransmitRing()), interface: state, mappings: mappings, hypervisor: rig.back,
        frontend: DomainID(1), device: device, memory: memory, rate: nil)
    var wanted = Set<UInt64>()
    var isDead = false
    while !input.isAtEnd, !isDead {
        let code = input.byte()
        switch code % 8 {
        case 0, 1, 2:
            // A request: near what is allowed, so that most get far.
            let reference = rig.reference(input.byte()).rawValue
            let offset = code & 0x80 == 0 ? UInt16(input.byte()) : input.number()
            let size =
                code & 0x40 == 0 ? UInt16(input.byte()) : code & 0x20 == 0 ? input.number(UInt16.self) & 0xFFF : input.number()
            let flags = UInt16(input.byte()) & (code & 0x10 == 0 ? 0xF : 0x7)
            let slot = TransmitRequest(
                reference: GrantReference(reference), offset: offset, flags: TransmitFlags(rawValue: flags),
                id: UInt16(frontend.pushed % 256), size: size)
            frontend.push(bytes(of: slot))
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
        case 5: device.answers.append([FrameSent.full, .failed(Errno(5)), .sent][Int(code >> 3) % 3])
        case 6:
            let reference = rig.reference(input.byte()).rawValue
            frontend.push((0..<4).map { UInt8(truncatingIfNeeded: reference >> (8 * UInt32($0))) } + input.take(8))
        default: run(&core, &frontend, device, isControlled, &wanted, &isDead)
        }
    }
    if !isDead { run(&core, &frontend, device, isControlled, &wanted, &isDead) }
    mappings.removeAll()
    require(rig.host.usage == baseline, "\(rig.host.usage), at the start \(baseline)")
    return 0
}

private func bytes(of slot: TransmitRequest) -> [UInt8] {
    func little(_ value: some FixedWidthInteger, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
    return little(slot.reference.rawValue, 4) + little(slot.offset, 2) + little(slot.flags.rawValue, 2) + little(slot.id, 2)
        + little(slot.size, 2)
}

/// Publishes, lets the core work until it is done, and compares.
private func run(
    _ core: inout TransmitCore, _ frontend: inout Frontend, _ device: ScriptedQueue, _ isControlled: Bool,
    _ wanted: inout Set<UInt64>,
    _ isDead: inout Bool
) {
    let slots = frontend.publish()
    let script = device.answers
    device.clearSent()
    var turns = 0
    while turns < 1000 {
        turns += 1
        if core.isBlocked {
            core.isBlocked = false
            core.sendAll()
            continue
        }
        let (taken, _) = core.work()
        if taken == 0, !core.isBlocked { break }
    }
    require(turns < 1000, "no end of turns")
    _ = core.ring.publish()

    var answers: [(id: Int, status: Int)] = []
    var frames: [(bytes: [UInt8], offload: FrameOffload)] = []
    var left = script
    func answer(_ ids: [Int], _ extras: Int, _ status: Int) {
        for id in ids { answers.append((id, status)) }
        for _ in 0..<extras { answers.append((0, 1)) }
    }
    for outcome in outcomes(slots) {
        switch outcome {
        case .dropped(let ids, let extras): answer(ids, extras, -1)
        case .fatal(let ids, let extras):
            answer(ids, extras, -1)
            isDead = true
        case .multicast(let id, let extras, let address, let isAdded):
            let isGroup = isControlled && address & 1 != 0
            var isGood = isGroup
            if isGroup, isAdded {
                isGood = wanted.contains(address) || wanted.count < 64
                if isGood { wanted.insert(address) }
            } else if isGroup {
                wanted.remove(address)
            }
            answer([id], extras, isGood ? 0 : -1)
        case .packet(let ids, let extras, let parts, let flags, let segmentation):
            var bytes: [UInt8]? = []
            for part in parts {
                guard let page = rig.page(GrantReference(part.reference)) else {
                    bytes = nil
                    break
                }
                bytes? += page.region.bytes(at: page.offset + part.offset, count: part.count)
            }
            guard let bytes,
                let frame = referenceOffload(
                    bytes, isBlank: flags & 1 != 0, isValidated: flags & 2 != 0, segmentation: segmentation)
            else {
                answer(ids, extras, -1)
                continue
            }
            var status = 0
            while let how = left.first {
                left.removeFirst()
                if how == .full { continue }
                if how != .sent { status = -2 }
                break
            }
            if status == 0 { frames.append(frame) }
            answer(ids, extras, status)
        }
    }
    let found = frontend.answers()
    require((core.fault != nil) == isDead, "fault \(core.fault ?? "none"), expected \(isDead)")
    require(device.sent.count == frames.count, "\(device.sent.count) frames sent, expected \(frames.count)")
    for (index, frame) in frames.enumerated() {
        require(
            device.sent[index].bytes == frame.bytes,
            "frame \(index): \(device.sent[index].bytes.prefix(80)), expected \(frame.bytes.prefix(80))")
        require(
            device.sent[index].offload == frame.offload, "frame \(index): \(device.sent[index].offload), expected \(frame.offload)")
    }
    let key = { (list: [(id: Int, status: Int)]) in list.map { $0.id * 8 + $0.status + 2 }.sorted() }
    require(key(found) == key(answers), "answers \(found), expected \(answers)")
}
