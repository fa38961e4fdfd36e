// Any requests on a control ring, with any pages of keys, mappings and lists behind them: answers and settings against
// a model.

import DMA
import FuzzSupport
import Hypervisor
@testable import NetworkBackend
import NetworkProtocol
import NetworkRig
import SharedMemory
import SharedRing
import XenTypes

nonisolated(unsafe) let rig = made { try NetworkRig(writable: 8, readable: 4) }
nonisolated(unsafe) private let rings = made { try rig.ring() }
nonisolated(unsafe) private let baseline = rig.host.usage
let limit = 6
let queueCount = 2

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(start, count)
    rig.writable.region.fill(0, count: rig.writable.region.byteCount)
    rig.readable.region.fill(0, count: rig.readable.region.byteCount)
    var session = Session()
    while !input.isAtEnd {
        let code = input.byte()
        if code & 1 == 0 { writePage(code, &input) } else { session.ask(session.request(code, &input)) }
    }
    session.end()
    return 0
}

/// Something into a page: anything, entries of a list, or entries of a mapping.
private func writePage(_ code: UInt8, _ input: inout ByteReader) {
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

/// A backend's control ring, and what must come of each request on it.
private struct Session: ~Copyable {
    private let ring: SharedRegion
    private let state: InterfaceState
    private let devices: [DMADevice]
    private let mappings: [GrantMappings]
    private var server: ControlServer
    private var model = Model()
    private var pushed: UInt32 = 0

    init() {
        ring = rings.front.region
        ring.fill(0, count: 4096)
        let keys = NetworkQueueKeys(transmit: rings.front.references[0], receive: rings.front.references[0], port: EventPort(1))
        state = InterfaceState(NetworkRequestKeys(queues: [keys, keys]), .all)
        devices = (0..<queueCount).map { _ in made { try DMADevice(name: "fuzz") } }
        mappings = devices.map { device in
            GrantMappings(limit: limit, dma: device, hypervisor: rig.back, frontend: DomainID(1), random: .system)
        }
        server = ControlServer(
            ring: BackRing(attaching: rings.back.region, ControlRing()), interface: state,
            queues: mappings.map { ControlQueue(limit: limit, mappings: $0) }, hypervisor: rig.back, frontend: DomainID(1),
            journal: nil)
    }

    /// The next request that the input says.
    func request(_ code: UInt8, _ input: inout ByteReader) -> ControlRequest {
        let type = code & 0x80 == 0 ? UInt16(input.byte() % 12) : input.number()
        var data = (0..<3).map { _ in number(&input) }
        // The pages that requests name are worth naming right.
        if code & 2 != 0, type == 3 || type == 6 { data[0] = rig.reference(input.byte()).rawValue }
        if code & 2 != 0, type == 9 || type == 10 { data[1] = rig.reference(input.byte()).rawValue }
        // A list in the ring's own page would be overwritten by the answer before it could be looked at.
        if data[1] == rings.front.references[0].rawValue { data[1] = 70_000 }
        return ControlRequest(id: UInt16(truncatingIfNeeded: pushed &* 77), rawType: type, data[0], data[1], data[2])
    }

    /// Pushes a request, lets the backend answer it, and compares.
    mutating func ask(_ request: ControlRequest) {
        request.store(ring, 64 + Int(pushed % 128) * 16)
        pushed &+= 1
        ring.storeReleasing(pushed, at: RingHeader.requestProduced)
        // What the pages held before the backend writes into them is what counts.
        model.expectedStatuses = []
        let before = model
        let expected = model.answer(request.rawType, request.data0, request.data1, request.data2)
        var worked = 0
        repeat { worked = server.work() } while worked > 0
        _ = server.ring.publish()
        require(server.fault == nil && ring.loadAcquiring(RingHeader.responseProduced) == pushed, "no answer to \(request)")
        let response = ControlResponse(loading: ring, 64 + Int((pushed - 1) % 128) * 16)
        require(
            response == ControlResponse(id: request.id, rawType: request.rawType, rawStatus: expected.status, data: expected.data),
            "\(request): \(response), expected \(expected), from \(before)")
        compareStatuses(request)
        compareSettings(request)
        for index in mappings.indices { comparePages(index) }
        // Any hash leads to a queue that is there.
        require((0..<queueCount).contains(state.scaling.queue(request.data2, of: queueCount)), "a queue that is not there")
    }

    private func compareStatuses(_ request: ControlRequest) {
        guard !model.expectedStatuses.isEmpty, let page = rig.page(GrantReference(request.data1)) else { return }
        let found = model.expectedStatuses.indices.map { page.region.load(page.offset + 8 * $0 + 6, as: UInt16.self) }
        require(found == model.expectedStatuses, "\(request): entries \(found), expected \(model.expectedStatuses)")
    }

    private func compareSettings(_ request: ControlRequest) {
        let scaling = state.scaling
        require(
            scaling.algorithm.rawValue == model.algorithm && scaling.types.rawValue == model.types
                && scaling.mapping == model.mapping
                && scaling.toeplitz.key == model.key, "settings after \(request)")
        require(mappings.map(\.count) == model.mapped.map(\.count), "mapped pages after \(request)")
    }

    /// What a queue has mapped, and nothing else.
    private func comparePages(_ index: Int) {
        let (queue, expected) = (mappings[index], model.mapped[index])
        for (reference, isWritable) in expected {
            let (read, written) = (
                queue.page(GrantReference(reference), writable: false),
                queue.page(GrantReference(reference), writable: true)
            )
            require(read != nil && (written != nil) == isWritable, "page \(reference) of queue \(index)")
        }
        for byte in UInt8(0)..<14 where expected[rig.reference(byte).rawValue] == nil {
            require(queue.page(rig.reference(byte), writable: false) == nil, "a page that is not mapped any more")
        }
    }

    /// Nothing is left of it.
    func end() {
        for queue in mappings { queue.removeAll() }
        require(rig.host.usage == baseline, "\(rig.host.usage), at the start \(baseline)")
        require(devices.allSatisfy { $0.bus.windowCount == 0 }, "windows are left on a bus")
    }
}
