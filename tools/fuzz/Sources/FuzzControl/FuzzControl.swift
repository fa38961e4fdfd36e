// Any requests on a control ring, with any pages of keys, mappings and lists behind them: answers and settings against a model.

import DMA
import FuzzSupport
import Hypervisor
@testable import NetworkBackend
import NetworkRig
import Packets
import SharedMemory
import SharedRing
import XenBus
import XenWire

nonisolated(unsafe) private let rig = try! NetworkRig(writable: 8, readable: 4)
nonisolated(unsafe) private let rings = try! rig.ring()
nonisolated(unsafe) private let baseline = rig.host.usage
private let limit = 6
private let queueCount = 2

private func word(_ bytes: [UInt8], _ at: Int) -> UInt32 {
    var value: UInt32 = 0
    for index in (0..<4).reversed() { value = value << 8 | UInt32(bytes[at + index]) }
    return value
}

/// The settings as they should be.
private struct Model {
    var algorithm: UInt32 = 0
    var types: UInt32 = 0
    var key: [UInt8] = []
    var mapping: [UInt32] = []
    /// By queue: mapped references, and whether they may be written.
    var mapped: [[UInt32: Bool]] = Array(repeating: [:], count: queueCount)

    func bytes(_ reference: UInt32, _ count: Int) -> [UInt8]? {
        if count == 0 { return [] }
        guard let page = rig.page(GrantReference(reference)) else { return nil }
        return page.region.bytes(at: page.offset, count: count)
    }

    mutating func answer(_ type: UInt16, _ a: UInt32, _ b: UInt32, _ c: UInt32) -> (status: UInt32, data: UInt32) {
        switch type {
        case 1: return (0, 15)
        case 2:
            if a > 15 || algorithm == 0 { return (2, 0) }
            types = a
        case 3:
            if b > 40 { return (3, 0) }
            guard let bytes = bytes(a, Int(b)) else { return (2, 0) }
            key = bytes
        case 4: return (0, 128)
        case 5:
            if a > 128 { return (2, 0) }
            mapping = Array(repeating: 0, count: Int(a))
        case 6:
            if UInt64(b) + UInt64(c) > UInt64(mapping.count) { return (2, 0) }
            guard let bytes = bytes(a, Int(b) * 4) else { return (2, 0) }
            let entries = (0..<Int(b)).map { word(bytes, 4 * $0) }
            if entries.contains(where: { $0 >= queueCount }) { return (2, 0) }
            for (index, entry) in entries.enumerated() { mapping[Int(c) + index] = entry }
        case 7:
            if a > 1 { return (2, 0) }
            algorithm = a
        case 8: return a < queueCount ? (0, UInt32(limit)) : (2, 0)
        case 9, 10: return list(isAdded: type == 9, a, b, c)
        default: return (1, 0)
        }
        return (0, 0)
    }

    /// Also writes each entry's status where it belongs, as the backend would.
    private mutating func list(isAdded: Bool, _ queue: UInt32, _ reference: UInt32, _ count: UInt32) -> (UInt32, UInt32) {
        guard queue < queueCount, count >= 1, count <= 512, let page = rig.page(GrantReference(reference)), page.isWritable else {
            return (2, 0)
        }
        var worst: UInt32 = 0
        // All entries are read before the first status is written.
        let bytes = page.region.bytes(at: page.offset, count: Int(count) * 8)
        expectedStatuses = []
        for index in 0..<Int(count) {
            let entry = word(bytes, 8 * index)
            let isReadOnly = bytes[8 * index + 4] & 1 != 0
            var status: UInt32 = 0
            if isAdded {
                if mapped[Int(queue)][entry] != nil {
                    status = 2
                } else if mapped[Int(queue)].count >= limit {
                    status = 3
                } else if let granted = rig.page(GrantReference(entry)), granted.isWritable || isReadOnly {
                    mapped[Int(queue)][entry] = !isReadOnly
                } else {
                    status = 2
                }
            } else if mapped[Int(queue)].removeValue(forKey: entry) == nil {
                status = 2
            }
            if status != 0 { worst = 2 }
            expectedStatuses.append(UInt16(status))
        }
        return (worst, 0)
    }
    var expectedStatuses: [UInt16] = []
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(start, count)
    rig.writable.region.fill(0, count: rig.writable.region.byteCount)
    rig.readable.region.fill(0, count: rig.readable.region.byteCount)
    let ring = rings.front.region
    ring.fill(0, count: 4096)
    let queue = NetworkQueueKeys(transmit: rings.front.references[0], receive: rings.front.references[0], port: EventPort(1))
    let state = InterfaceState(NetworkRequestKeys(queues: [queue, queue]), .all)
    let devices = (0..<2).map { _ in try! DMADevice(name: "fuzz") }
    let mappings = devices.map { GrantMappings(limit: limit, dma: $0, hypervisor: rig.back, frontend: DomainID(1)) }
    var core = ControlCore(
        ring: BackRing(attaching: rings.back.region, ControlRing()), interface: state,
        queues: mappings.map { ControlQueue(limit: limit, mappings: $0) }, hypervisor: rig.back, frontend: DomainID(1), journal: nil)
    var model = Model()
    var pushed: UInt32 = 0
    while !input.isAtEnd {
        let code = input.byte()
        if code & 1 == 0 {
            // Something into a page: anything, entries of a list, or entries of a mapping.
            let page = Int(input.byte() % 12)
            let region = page < 8 ? rig.writable.region : rig.readable.region
            let offset = (page % 12 % 8) * 4096
            let place = offset % region.byteCount + Int(input.byte()) * 8
            switch code >> 1 & 3 {
            case 0: region.write(input.take(8), at: place)
            case 1:
                for index in 0..<Int(input.byte() % 10) {
                    let entry = GrantMappingEntry(reference: rig.reference(input.byte()), isReadOnly: input.byte() & 1 != 0)
                    region.store(entry.word, at: place + 8 * index)
                }
            default: region.store(UInt64(input.byte() % 3) | UInt64(input.byte() % 3) << 32, at: place)
            }
            continue
        }
        let type = code & 0x80 == 0 ? UInt16(input.byte() % 12) : input.number()
        var data = (0..<3).map { _ in number(&input) }
        // The pages that requests name are worth naming right.
        if code & 2 != 0, type == 3 || type == 6 { data[0] = rig.reference(input.byte()).rawValue }
        if code & 2 != 0, type == 9 || type == 10 { data[1] = rig.reference(input.byte()).rawValue }
        // A list in the ring's own page would be overwritten by the answer before it could be looked at.
        if data[1] == rings.front.references[0].rawValue { data[1] = 70_000 }
        let request = ControlRequest(id: UInt16(truncatingIfNeeded: pushed &* 77), rawType: type, data[0], data[1], data[2])
        request.store(ring, 64 + Int(pushed % 128) * 16)
        pushed &+= 1
        ring.storeReleasing(pushed, at: RingHeader.requestProduced)
        // What the pages held before the backend writes into them is what counts.
        model.expectedStatuses = []
        let before = model
        let expected = model.answer(type, data[0], data[1], data[2])
        var worked = 0
        repeat { worked = core.work() } while worked > 0
        _ = core.ring.publish()
        require(core.fault == nil && ring.loadAcquiring(RingHeader.responseProduced) == pushed, "no answer to \(request)")
        let response = ControlResponse(loading: ring, 64 + Int((pushed - 1) % 128) * 16)
        require(
            response == ControlResponse(id: request.id, rawType: type, rawStatus: expected.status, data: expected.data),
            "\(request): \(response), expected \(expected), from \(before)")
        if !model.expectedStatuses.isEmpty, let page = rig.page(GrantReference(data[1])) {
            let found = model.expectedStatuses.indices.map { page.region.load(page.offset + 8 * $0 + 6, as: UInt16.self) }
            require(found == model.expectedStatuses, "\(request): entries \(found), expected \(model.expectedStatuses)")
        }
        let spreading = state.spreading
        require(
            spreading.algorithm.rawValue == model.algorithm && spreading.types.rawValue == model.types
                && spreading.mapping == model.mapping
                && spreading.toeplitz.key == model.key, "settings after \(request)")
        require(mappings.map(\.count) == model.mapped.map(\.count), "mapped pages after \(request)")
        for (index, queue) in mappings.enumerated() {
            for (reference, isWritable) in model.mapped[index] {
                let (read, written) = (
                    queue.page(GrantReference(reference), writable: false),
                    queue.page(GrantReference(reference), writable: true)
                )
                require(read != nil && (written != nil) == isWritable, "page \(reference) of queue \(index)")
            }
        }
        for index in mappings.indices {
            for byte in UInt8(0)..<14 where model.mapped[index][rig.reference(byte).rawValue] == nil {
                require(mappings[index].page(rig.reference(byte), writable: false) == nil, "a page that is not mapped any more")
            }
        }
        // Any hash leads to a queue that is there.
        require((0..<queueCount).contains(state.spreading.queue(data[2], of: queueCount)), "a queue that is not there")
    }
    for queue in mappings { queue.removeAll() }
    require(rig.host.usage == baseline, "\(rig.host.usage), at the start \(baseline)")
    require(devices.allSatisfy { $0.bus.windowCount == 0 }, "windows are left on a bus")
    return 0
}

/// A number of the kind that breaks sums, or any.
private func number(_ input: inout ByteReader) -> UInt32 {
    let code = input.byte()
    switch code >> 6 {
    case 0: return UInt32(code & 63)
    case 1: return [0, 1, 39, 40, 41, 127, 128, 129, 511, 512, 513, 1 << 16, 1 << 30, 1 << 31, .max - 127, .max][Int(code & 15)]
    default: return input.number()
    }
}
