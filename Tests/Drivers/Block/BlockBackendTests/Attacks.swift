// What hostile frontends of disks do, in a form in which something can be done before and after each of them.

import BlockProtocol
import LinuxSystem
import MockPeers
import SharedMemory
import SharedRing
import XenTypes

/// An attack of a frontend's. Each leaves the ring in order, unless it is about that.
enum Attack: String, CaseIterable, Sendable {
    case badGrants, impossibleSegments, impossibleCounts, unknownOperations, beyondTheEnd, discards, oneGrantForAll
    case readOnlyGrant, allGrants, nonsenseDescriptors, changingFields, lyingIndex, overwrittenHeader, statesAtRandom
    case leavesInTheMiddle

    /// Whether its device is given up, or its connection is over.
    var endsConnection: Bool {
        switch self {
        case .lyingIndex, .overwrittenHeader, .statesAtRandom, .leavesInTheMiddle: true
        default: false
        }
    }
}

extension MockBlockFrontend {
    /// Does it, and takes whatever answers there are.
    func perform(_ attack: Attack) throws {
        switch attack {
        case .badGrants:
            try askAll((0..<11).flatMap { place in badReferences.map { reference in many(.write, 11, at: place, reference) } })
        case .impossibleSegments:
            let pairs: [(UInt8, UInt8)] = [(0, 8), (8, 8), (5, 3), (255, 0), (0, 255), (255, 255)]
            try askAll(
                pairs.flatMap { pair in
                    [.read, .write].map { request($0, sector: 8, first: pair.0, last: pair.1) }
                })
        case .impossibleCounts: try askAll([0, 12, 13, 128, 255].map { count in counting(count) })
        case .unknownOperations:
            try askAll([4, 7, 8, 100, 128, 255].map { request(BlockOperationCode(rawValue: $0), sector: 0) })
        case .beyondTheEnd:
            let sectors: [UInt64] = [8192, 8191, .max, .max - 7, 1 << 55, 1 << 63]
            try askAll(sectors.flatMap { sector in [.read, .write].map { request($0, sector: sector) } })
        case .discards:
            try askAll([(8192, 1), (0, 8193), (.max, 1), (1, .max)].map { BlockRequest(discarding: $1, at: $0, id: 1) })
        case .oneGrantForAll: try askAll((0..<200).map { many($0 % 2 == 0 ? .read : .write, 11, at: 0, data.references[1], of: 1) })
        case .readOnlyGrant:
            let sealed = try hypervisor.offerPages(1, to: .zero, access: .readOnly)
            try askAll((0..<20).map { _ in many(.read, 3, at: 1, sealed.references[0]) })
            sealed.withdraw()
        case .allGrants: try askAll((0..<300).map { request(.write, sector: 0, page: $0 % 60) })
        case .nonsenseDescriptors: try askAll((0..<40).map { nonsense($0) })
        case .changingFields: try whileFieldsChange { try askAll((0..<400).map { _ in request(.read, sector: 8) }) }
        case .lyingIndex:
            ring.region.storeReleasing(UInt32(1) << 31, at: RingHeader.requestProduced)
            channel.notify()
            try waitForBackend([.closing])
        case .overwrittenHeader:
            for round in 0..<20 as Range<UInt32> {
                for field in [RingHeader.requestProduced, RingHeader.responseProduced, RingHeader.requestEvent] {
                    ring.region.storeReleasing(round &* 0x9E37_79B9, at: field)
                }
                channel.notify()
            }
            try waitForBackend([.closing])
        case .statesAtRandom:
            for state in ["4", "1", "9", "", "-1", "6", "3", "2", "4abc", "5"] { try store.write(path + "/state", state) }
        case .leavesInTheMiddle:
            for page in 0..<16 { _ = front.push(request(.read, sector: 0, page: page, id: UInt64(page))) }
            if front.publish() { channel.notify() }
        }
    }

    private var badReferences: [GrantReference] {
        [GrantReference(0), GrantReference(7), GrantReference(31_000), GrantReference(.max)]
    }

    /// A request of several pages, one of which is another one than it should be.
    private func many(
        _ operation: BlockOperationCode, _ count: Int, at place: Int, _ odd: GrantReference, of page: Int? = nil
    ) -> BlockRequest {
        var request = BlockRequest(operation, id: 1, sector: 0)
        for index in 0..<count { request.append(BlockSegment(index == place ? odd : data.references[page ?? index])) }
        return request
    }

    private func counting(_ count: Int) -> BlockRequest {
        var request = many(.write, min(count, 11), at: 0, data.references[0])
        request.segmentCount = UInt16(count)
        return request
    }

    /// Indirect requests whose descriptors are in the ring's page, a data page, or nowhere.
    private func nonsense(_ round: Int) -> BlockRequest {
        for index in 0..<512 {
            let word = UInt64(round &* 512 &+ index) &* 0x9E37_79B9_7F4A_7C15
            data.region.store(word, at: 60 * 4096 + index * 8)
        }
        let counts: [UInt16] = [1, 12, 256, 257, 4096, 65535]
        var request = BlockRequest(indirect: round % 2 == 0 ? .read : .write, segmentCount: counts[round % 6], sector: 0, id: 1)
        let pages = [data.references[60], ring.references[0], GrantReference(31_000)]
        for page in 0..<8 { request.setIndirectReference(page, to: pages[round % 3]) }
        return request
    }

    private func whileFieldsChange(_ body: () throws -> Void) throws {
        let (stop, region) = (StopFlag(), ring.region)
        let racer = try WorkerThread(name: "racer") {
            var value: UInt8 = 0
            while !stop.isSet {
                for slot in 0..<32 { region.store(value & 1 == 0 ? UInt8(1) : 255, at: 64 + slot * 112 + 1) }
                value &+= 1
            }
        }
        defer {
            stop.set()
            racer.join()
        }
        try body()
    }

    /// Asks one after another, as many as the ring holds at a time. What is answered is the backend's to say.
    func askAll(_ requests: [BlockRequest]) throws {
        for start in stride(from: 0, to: requests.count, by: 32) {
            let some = requests[start..<min(start + 32, requests.count)]
            for request in some { _ = front.push(request) }
            if front.publish() { channel.notify() }
            for _ in some { _ = try receive() }
        }
    }
}
