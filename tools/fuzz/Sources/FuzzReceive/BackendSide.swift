// netback's end: a frontend that posts any pages and changes its settings, a device with any frames. What the frontend finds on its ring is put
// together again by a strict reader; each frame must be one of the device's, whole and in order, or refused in each of its slots.

import DMA
import FuzzSupport
import HostDevices
import Hypervisor
@testable import NetworkBackend
import NetworkRig
import Packets
import SharedMemory
import SharedRing
import XenBus
import XenWire

nonisolated(unsafe) private let rig = try! NetworkRig(writable: 40, readable: 3)
nonisolated(unsafe) private let rings = try! rig.ring()
nonisolated(unsafe) private let memories = fuzzedMemory.map { try! QueueMemory(name: "fuzz", options: $0) }
nonisolated(unsafe) private let baseline = rig.host.usage

/// A frame that the device gave, and what may become of its checksum.
private struct Given {
    var bytes: [UInt8]
    var offload: FrameOffload
}

func fuzzBackend(_ input: inout ByteReader) {
    let features = NetworkFeatures(rawValue: UInt32(input.byte()) & 31).consistent
    let ring = rings.front.region
    ring.fill(0, count: 4096)
    let memory = memories[Int(input.last) % memories.count]
    let device = ScriptedQueue(memory.dma.bus)
    let key = NetworkQueueKeys(transmit: rings.front.references[0], receive: rings.front.references[0], port: EventPort(1))
    let state = InterfaceState(
        NetworkRequestKeys(queues: [key], features: features, multicastControl: input.byte() & 1 != 0), features)
    let mappings = GrantMappings(limit: 64, dma: memory.dma, hypervisor: rig.back, frontend: DomainID(1))
    var core = ReceiveCore(
        ring: BackRing(attaching: rings.back.region, ReceiveRing()), interface: state, mappings: mappings, hypervisor: rig.back,
        frontend: DomainID(1), device: device, index: 0, memory: memory)
    var posted: [ReceiveRequest] = []
    var answered = 0
    var given: [Given] = []
    var nextGiven = 0
    while !input.isAtEnd {
        let code = input.byte()
        switch code % 8 {
        case 0, 1:
            for _ in 0...Int(code >> 4) where posted.count - answered < 256 {
                let request = ReceiveRequest(
                    id: code & 8 == 0 ? UInt16(input.byte()) : input.number(), reference: rig.reference(input.byte()))
                request.store(ring, 64 + posted.count % 256 * 8)
                posted.append(request)
            }
            ring.storeReleasing(UInt32(posted.count), at: RingHeader.requestProduced)
        case 2, 3:
            var offload = FrameOffload()
            var bytes = code & 0x80 == 0 ? cannedHeaders(input.byte()) : input.take(Int(input.byte() % 32))
            let size = code & 0x40 == 0 ? Int(input.byte()) : Int(input.number(UInt16.self))
            while bytes.count < size { bytes.append(UInt8(truncatingIfNeeded: bytes.count &* 31 &+ given.count)) }
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
            given.append(Given(bytes: bytes, offload: offload))
            device.frames.append((bytes, offload))
            core.deviceIsReady = true
        case 4:
            let entries = (0...Int(code >> 4)).map { _ in
                GrantMappingEntry(reference: rig.reference(input.byte()), isReadOnly: false)
            }
            _ = code & 8 == 0 ? mappings.add(entries) : mappings.remove(entries)
        case 5:
            var spreading = state.spreading.separate
            spreading.algorithm = code & 8 == 0 ? .none : .toeplitz
            spreading.types = HashTypes(rawValue: UInt32(code >> 4))
            spreading.toeplitz = ToeplitzHash(key: input.take(Int(input.byte() % 41)))
            state.take(spreading)
        case 6:
            if code & 8 == 0 {
                core.expire()
            } else {
                _ = state.setMulticast(
                    MACAddress(littleEndian: input.number(UInt64.self) & 0xFFFF_FFFF_FFFF | 1), isAdded: code & 16 == 0)
            }
        default:
            var turns = 0
            while core.work() > 0 {
                turns += 1
                require(turns < 10_000, "no end of turns")
            }
            _ = core.ring.publish()
            require(core.fault == nil, core.fault ?? "")
            read(ring, posted, &answered, given, &nextGiven, features)
            let held = core.holdsFrame ? 1 : 0
            require(
                Int(core.statistics.received + core.statistics.receiveDropped) + held == device.taken,
                "\(core.statistics), \(held) held, \(device.taken) taken")
            require(core.postedCount <= posted.count - answered, "\(core.postedCount) pages in hand of \(posted.count - answered)")
        }
    }
    mappings.removeAll()
    require(rig.host.usage == baseline, "\(rig.host.usage), at the start \(baseline)")
}

/// Reads what was answered, as a strict frontend does.
private func read(
    _ ring: SharedRegion, _ posted: [ReceiveRequest], _ answered: inout Int, _ given: [Given], _ nextGiven: inout Int,
    _ features: NetworkFeatures
) {
    let produced = Int(ring.loadAcquiring(RingHeader.responseProduced))
    require(produced >= answered && produced <= posted.count, "\(produced) answers to \(posted.count) requests")
    // Where the frontend posted a page twice, a later frame has written over an earlier one, or what was moved up has.
    let references = posted[answered...].map(\.reference)
    let areDistinct = Set(references).count == references.count
    while answered < produced {
        var bytes: [UInt8] = []
        var isRefused = false
        let first = take(ring, posted, &answered, produced, &bytes, &isRefused)
        var segmentation: ExtraInfo?
        var more = first.flags.contains(.extraInfo)
        while more {
            require(answered < produced, "an extra that is not there")
            let extra = ReceiveSlot(loading: ring, 64 + answered % 256 * 8).extra
            answered += 1
            require(extra.type == .segmentation || extra.type == .hash, "an extra of type \(extra.rawType)")
            if extra.type == .segmentation { segmentation = extra }
            more = extra.hasMore
        }
        more = first.flags.contains(.moreData)
        while more {
            require(answered < produced, "a slot that is not there")
            let next = take(ring, posted, &answered, produced, &bytes, &isRefused)
            require(!next.flags.contains(.extraInfo), "an extra behind a later slot")
            more = next.flags.contains(.moreData)
        }
        if isRefused { continue }
        // The next frame of the device's that it can be: others were dropped, in order.
        var place = nextGiven
        while place < given.count, !matches(bytes, first, segmentation, given[place], areDistinct) { place += 1 }
        require(place < given.count, "a frame of \(bytes.count) bytes that the device did not give: \(bytes.prefix(64)), \(first)")
        nextGiven = place + 1
        if segmentation != nil {
            require(
                features.contains(given[place].offload.segmentation?.type == .tcp4 ? .tcp4 : .tcp6), "segments that are not taken")
        }
        if !features.contains(.scatterGather) { require(bytes.count <= 4096, "several slots") }
    }
}

private func take(
    _ ring: SharedRegion, _ posted: [ReceiveRequest], _ answered: inout Int, _ produced: Int, _ bytes: inout [UInt8],
    _ isRefused: inout Bool
) -> ReceiveResponse {
    let response = ReceiveSlot(loading: ring, 64 + answered % 256 * 8).response
    let request = posted[answered]
    answered += 1
    require(response.id == request.id, "\(response) to \(request)")
    if response.status < 0 {
        isRefused = true
        return response
    }
    require(!isRefused && response.status > 0 && Int(response.offset) + Int(response.status) <= 4096, "\(response)")
    guard let page = rig.page(request.reference), page.isWritable else {
        fatalError("\(response) from a page that cannot be written")
    }
    bytes += page.region.bytes(at: page.offset, count: Int(response.status))
    return response
}

/// Whether a frame on the ring can be that one of the device's.
private func matches(_ bytes: [UInt8], _ first: ReceiveResponse, _ segmentation: ExtraInfo?, _ given: Given, _ areDistinct: Bool)
    -> Bool
{
    guard bytes.count == given.bytes.count, (segmentation != nil) == (given.offload.segmentation != nil) else { return false }
    if areDistinct {
        var (seen, wanted) = (bytes, given.bytes)
        if let checksum = given.offload.checksum, !first.flags.contains(.checksumBlank) {
            // It was filled in.
            let field = Int(checksum.start) + Int(checksum.field)
            guard field + 2 <= bytes.count else { return false }
            for place in field...field + 1 { (seen[place], wanted[place]) = (0, 0) }
        }
        guard seen == wanted else { return false }
    }
    guard let segmentation else { return true }
    return segmentation.segmentSize == given.offload.segmentation?.size
        && segmentation.rawSegmentationType == (given.offload.segmentation?.type == .tcp4 ? 1 : 2)
}
