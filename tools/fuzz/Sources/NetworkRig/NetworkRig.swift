// What the network's fuzz targets stand on: one host with a frontend's and a backend's domain, made once, and a device
// that does as it is told.

import DMA
import Hypervisor
import InProcess
import LinuxSystem
import NetworkDevices
import Packets
import SharedMemory
import XenTypes

/// The kinds of memory that a queue's device may have before it.
package let fuzzedMemory: [DMAOptions] = [
    DMAOptions(), DMAOptions(model: .p2m, iommu: .strict),
    DMAOptions(model: .p2m, constraints: DMAConstraints(mask: 0xFFFF_FFFF, boundaryMask: 0x1FFF), bouncePool: 1 << 20),
    DMAOptions(model: .identity, iommu: .deferred, constraints: DMAConstraints(isUntrusted: true), bouncePool: 1 << 20),
]

/// A host, two domains, and pages of the frontend's.
package final class NetworkRig {
    package let host = InProcessHost(time: .system)
    package let back: InProcessHypervisor
    package let guest: InProcessHypervisor
    /// Pages that the backend may write.
    package let writable: any OfferedPages
    /// Pages that it may read only.
    package let readable: any OfferedPages
    private var rings: [UInt32: SharedRegion] = [:]

    package init(writable: Int, readable: Int) throws {
        back = host.domain(0)
        guest = host.domain(1)
        self.writable = try guest.offerPages(writable, to: .zero, access: .readWrite)
        self.readable = try guest.offerPages(readable, to: .zero, access: .readOnly)
    }

    /// A page for a ring, as both sides have it.
    package func ring() throws -> (front: any OfferedPages, back: any ContiguousGrants) {
        let page = try guest.offerPages(1, to: .zero, access: .readWrite)
        rings[page.references[0].rawValue] = page.region
        return (page, try back.mapContiguous(page.references, of: DomainID(1), access: .readWrite))
    }

    /// The reference that a byte stands for: a writable page, a readable one, or none.
    package func reference(_ byte: UInt8) -> GrantReference {
        let place = Int(byte) % (writable.references.count + readable.references.count + 2)
        if place < writable.references.count { return writable.references[place] }
        let rest = place - writable.references.count
        return rest < readable.references.count
            ? readable.references[rest] : GrantReference(rest == readable.references.count ? 0 : 70_000)
    }

    /// The page behind a reference: whose region it lies in, where, and whether it may be written; nil: nothing is
    /// granted there.
    package func page(_ reference: GrantReference) -> (region: SharedRegion, offset: Int, isWritable: Bool)? {
        if let index = writable.references.firstIndex(of: reference) { return (writable.region, index * 4096, true) }
        if let index = readable.references.firstIndex(of: reference) { return (readable.region, index * 4096, false) }
        return rings[reference.rawValue].map { ($0, 0, true) }
    }
}

/// A device whose frames and answers are the fuzzer's.
package final class ScriptedQueue: NetworkDeviceQueue {
    private let bus: MemoryBus
    /// How the next sends end; then all are sent.
    package var answers: [FrameSent] = []
    package private(set) var sent: [(bytes: [UInt8], offload: FrameOffload)] = []
    /// What there is to receive.
    package var frames: [(bytes: [UInt8], offload: FrameOffload)] = []
    /// Frames that were taken.
    package private(set) var taken = 0
    package let statistics = NetworkDeviceStatistics()
    package var descriptor: Descriptor? { nil }

    /// Frames wait for `flush`, as a tap's do, and are read only then; else each is sent at once, as a cable's.
    package var isBatched = false
    private var waiting: [(segments: [BusSegment], offload: FrameOffload)] = []

    package init(_ bus: MemoryBus) { self.bus = bus }

    package func send(_ offload: FrameOffload, segments: Span<BusSegment>) -> FrameSent {
        let list = segments.indices.map { segments[$0] }
        if !isBatched { return move(list, offload) }
        if waiting.count == 5 { return .full }
        waiting.append((list, offload))
        return .waiting
    }

    package func flush(_ ended: inout [FrameSent]) {
        var isFull = false
        for frame in waiting {
            let outcome = isFull ? .full : move(frame.segments, frame.offload)
            if outcome == .full { isFull = true }
            ended.append(outcome)
        }
        waiting.removeAll()
    }

    private func move(_ segments: [BusSegment], _ offload: FrameOffload) -> FrameSent {
        if !answers.isEmpty {
            let answer = answers.removeFirst()
            if answer != .sent { return answer }
        }
        var bytes: [UInt8] = []
        for segment in segments {
            for run in runs(segment, .toDevice) { unsafe bytes += UnsafeRawBufferPointer(run) }
        }
        sent.append((bytes, offload))
        return .sent
    }

    package func receive(into segments: Span<BusSegment>) -> FrameReceived {
        guard !frames.isEmpty else { return .nothing }
        var room = 0
        for index in segments.indices { room += Int(segments[index].byteCount) }
        taken += 1
        let frame = frames.removeFirst()
        guard frame.bytes.count <= room else { return .spoilt }
        var done = 0
        for index in segments.indices {
            for run in runs(segments[index], .fromDevice) {
                let count = min(run.count, frame.bytes.count - done)
                for place in 0..<max(0, count) { unsafe run[place] = frame.bytes[done + place] }
                done += max(0, count)
            }
        }
        return .frame(byteCount: frame.bytes.count, frame.offload)
    }

    /// A segment as it lies here. It must be there, all of it.
    private func runs(_ segment: BusSegment, _ direction: DMADirection) -> [UnsafeMutableRawBufferPointer] {
        var rest = segment
        var list: [UnsafeMutableRawBufferPointer] = []
        while rest.byteCount > 0 {
            guard let run = unsafe bus.resolveRun(rest, direction), let next = rest.address.advanced(by: UInt64(run.byteCount))
            else {
                fatalError("a segment that is not there: \(segment)")
            }
            unsafe list.append(UnsafeMutableRawBufferPointer(start: run.memory, count: Int(run.byteCount)))
            rest = unsafe BusSegment(address: next, byteCount: rest.byteCount - run.byteCount)
        }
        return list
    }

    package func clearSent() { sent.removeAll(keepingCapacity: true) }
    package func close() {}
}

/// A frame's headers once more, from the RFCs and from bytes.
package struct ReferenceHeaders {
    package var isVersion4: Bool
    package var transport: Int
    package var isTCP: Bool
    /// Where the payload of the transport begins.
    package var end: Int
    package var addresses: Range<Int>

    /// Whether it has a routing header.
    package var isRouted = false

    /// Nil if `frame` is no TCP or UDP over IP, unfragmented and with whole headers, however long they are.
    package init?(_ frame: [UInt8]) {
        let bytes = frame
        func word(_ at: Int) -> Int { Int(bytes[at]) << 8 | Int(bytes[at + 1]) }
        if bytes.count < 14 { return nil }
        var at = 12
        var tags = 0
        while [0x8100, 0x88A8].contains(word(at)) {
            tags += 1
            if tags > 2 || at + 6 > bytes.count { return nil }
            at += 4
        }
        let type = word(at)
        at += 2
        var next: Int
        if type == 0x0800 {
            if at + 20 > bytes.count || bytes[at] >> 4 != 4 { return nil }
            let length = Int(bytes[at] & 15) * 4
            if length < 20 || at + length > bytes.count || word(at + 6) & 0x3FFF != 0 { return nil }
            next = Int(bytes[at + 9])
            isVersion4 = true
            addresses = at + 12..<at + 20
            at += length
        } else if type == 0x86DD {
            if at + 40 > bytes.count || bytes[at] >> 4 != 6 { return nil }
            next = Int(bytes[at + 6])
            isVersion4 = false
            addresses = at + 8..<at + 40
            at += 40
            while [0, 43, 44, 60].contains(next) {
                if at + 8 > bytes.count { return nil }
                let length = next == 44 ? 8 : 8 * (Int(bytes[at + 1]) + 1)
                if next == 44 && word(at + 2) & 0xFFF9 != 0 { return nil }
                if next == 43 { isRouted = true }
                next = Int(bytes[at])
                at += length
                if at > bytes.count { return nil }
            }
        } else {
            return nil
        }
        transport = at
        if next == 6 {
            if at + 20 > bytes.count { return nil }
            let length = Int(bytes[at + 12] >> 4) * 4
            if length < 20 || at + length > bytes.count { return nil }
            isTCP = true
            end = at + length
        } else if next == 17 {
            if at + 8 > bytes.count { return nil }
            isTCP = false
            end = at + 8
        } else {
            return nil
        }
    }

    package var field: Int { isTCP ? 16 : 6 }

    /// The pseudo header's sum.
    package func pseudoSum(_ frame: [UInt8]) -> Int {
        var sum = (isTCP ? 6 : 17) + frame.count - transport
        for (index, place) in addresses.enumerated() { sum += Int(frame[place]) << (index % 2 == 0 ? 8 : 0) }
        while sum > 0xFFFF { sum = (sum & 0xFFFF) + sum >> 16 }
        return sum
    }
}

/// What must come of a frame's marks: the bytes and the work that the device gets; nil: the frame is refused.
package func referenceOffload(
    _ frame: [UInt8], isBlank: Bool, isValidated: Bool, segmentation: (type: Int, size: Int)?
) -> (bytes: [UInt8], offload: FrameOffload)? {
    var offload = FrameOffload()
    offload.isValidated = isValidated
    guard isBlank || segmentation != nil else { return (frame, offload) }
    guard let headers = ReferenceHeaders(frame) else { return nil }
    offload.checksum = .init(start: UInt16(headers.transport), field: UInt16(headers.field))
    guard let segmentation else { return (frame, offload) }
    guard headers.isTCP, (segmentation.type == 1) == headers.isVersion4 else { return nil }
    var bytes = frame
    if !(headers.isRouted && isBlank) {
        let sum = headers.pseudoSum(frame)
        bytes[headers.transport + headers.field] = UInt8(sum >> 8)
        bytes[headers.transport + headers.field + 1] = UInt8(sum & 0xFF)
    }
    if frame.count - headers.end > segmentation.size {
        offload.segmentation = .init(
            type: segmentation.type == 1 ? .tcp4 : .tcp6, size: UInt16(segmentation.size), headerCount: UInt16(headers.end))
    }
    return (bytes, offload)
}

/// Headers to begin a page with: TCP or UDP over IPv4 or IPv6, with or without tags, options and extension headers, by
/// one byte.
package func cannedHeaders(_ shape: UInt8) -> [UInt8] {
    var bytes: [UInt8] = [0, 0x16, 0x3E, 1, 2, 3, 0, 0x16, 0x3E, 4, 5, 6]
    for _ in 0..<Int(shape >> 6) { bytes += [0x81, 0, 0, 1] }
    let next: UInt8 = shape & 1 == 0 ? 6 : 17
    if shape & 2 == 0 {
        let options = Int(shape >> 2 & 3) * 4
        bytes += [
            8, 0, 0x45 + UInt8(options / 4), 0, 5, 0, 0, 0, shape & 0x10 == 0 ? 0 : 0x20, 0, 64, next, 0, 0, 10, 0, 0, 1, 10, 0, 0,
            2,
        ]
        bytes += [UInt8](repeating: 1, count: options)
    } else {
        let chain: [UInt8] = [[], [60], [0, 43], [44]][Int(shape >> 2 & 3)]
        bytes += [0x86, 0xDD, 0x60, 0, 0, 0, 5, 0, chain.first ?? next, 64] + [UInt8](repeating: 0x20, count: 32)
        for index in chain.indices {
            bytes += [index + 1 < chain.count ? chain[index + 1] : next, 0, 0, shape & 0x10 == 0 ? 0 : 1, 0, 0, 0, 0]
        }
    }
    bytes += [0x30, 0x39, 0, 80]
    bytes += next == 6 ? [0, 0, 0, 1, 0, 0, 0, 2, shape & 0x20 == 0 ? 0x50 : 0x80, 0x10, 1, 0, 0, 0, 0, 0] : [0, 40, 0, 0]
    if next == 6, shape & 0x20 != 0 { bytes += [UInt8](repeating: 1, count: 12) }
    return bytes
}
