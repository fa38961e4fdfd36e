// The network protocol's offsets, sizes and constants, held against the C compiler's own, for both word sizes.

import LinuxSystem
import NetworkProtocol
import Packets
import SharedMemory
import TestSupport
import Testing
import XenTypes

@Suite struct NetworkLayoutTests {
    static let compilers: [[String]] = {
        #if arch(x86_64)
            [["-m32"], ["-m64"]]
        #else
            [[]]
        #endif
    }()

    @Test(.timeLimit(.minutes(3)), arguments: compilers) func theCompilerAgrees(flags: [String]) throws {
        var probe = CompilerProbe(flags: flags)
        for (name, offset) in [
            ("netif_tx_request, gref", 0), ("netif_tx_request, offset", 4), ("netif_tx_request, flags", 6),
            ("netif_tx_request, id", 8), ("netif_tx_request, size", 10), ("netif_tx_response, id", 0),
            ("netif_tx_response, status", 2), ("netif_rx_request, id", 0), ("netif_rx_request, gref", 4),
            ("netif_rx_response, id", 0), ("netif_rx_response, offset", 2), ("netif_rx_response, flags", 4),
            ("netif_rx_response, status", 6), ("netif_extra_info, type", 0), ("netif_extra_info, flags", 1),
            ("netif_extra_info, u.gso.size", 2), ("netif_extra_info, u.gso.type", 4), ("netif_extra_info, u.mcast.addr", 2),
            ("netif_extra_info, u.hash.type", 2), ("netif_extra_info, u.hash.algorithm", 3), ("netif_extra_info, u.hash.value", 4),
            ("xen_netif_ctrl_request, id", 0), ("xen_netif_ctrl_request, type", 2), ("xen_netif_ctrl_request, data", 4),
            ("xen_netif_ctrl_response, status", 4), ("xen_netif_ctrl_response, data", 8), ("xen_netif_gref, ref", 0),
            ("xen_netif_gref, flags", 4), ("xen_netif_gref, status", 6), ("netif_tx_sring, ring[1]", 64 + TransmitRequest.size),
            ("netif_rx_sring, ring[1]", 64 + ReceiveRequest.size), ("xen_netif_ctrl_sring, ring[1]", 64 + ControlRequest.size),
        ] { probe.expect("offsetof(struct \(name))", offset) }
        for (name, size) in [
            ("netif_tx_request", TransmitRequest.size), ("netif_tx_response", TransmitResponse.size),
            ("netif_rx_request", ReceiveRequest.size), ("netif_rx_response", ReceiveResponse.size),
            ("netif_extra_info", ExtraInfo.size), ("xen_netif_ctrl_request", ControlRequest.size),
            ("xen_netif_ctrl_response", ControlResponse.size), ("xen_netif_gref", GrantMappingEntry.size),
        ] { probe.expect("sizeof(struct \(name))", size) }
        for (name, value) in [
            ("NETTXF_csum_blank", Int(TransmitFlags.checksumBlank.rawValue)),
            ("NETTXF_data_validated", Int(TransmitFlags.dataValidated.rawValue)),
            ("NETTXF_more_data", Int(TransmitFlags.moreData.rawValue)),
            ("NETTXF_extra_info", Int(TransmitFlags.extraInfo.rawValue)),
            ("NETRXF_data_validated", Int(ReceiveFlags.dataValidated.rawValue)),
            ("NETRXF_csum_blank", Int(ReceiveFlags.checksumBlank.rawValue)),
            ("NETRXF_more_data", Int(ReceiveFlags.moreData.rawValue)), ("NETRXF_extra_info", Int(ReceiveFlags.extraInfo.rawValue)),
            ("NETIF_RSP_DROPPED", Int(NetworkStatus.dropped.rawValue)), ("NETIF_RSP_ERROR", Int(NetworkStatus.error.rawValue)),
            ("NETIF_RSP_OKAY", Int(NetworkStatus.okay.rawValue)), ("NETIF_RSP_NULL", Int(NetworkStatus.null.rawValue)),
            ("XEN_NETIF_MAX_TX_SIZE", NetworkLimits.maximumPacketSize),
            ("XEN_NETIF_NR_SLOTS_MIN", NetworkLimits.guaranteedSlots),
            ("XEN_NETIF_EXTRA_TYPE_GSO", Int(ExtraType.segmentation.rawValue)),
            ("XEN_NETIF_EXTRA_TYPE_MCAST_ADD", Int(ExtraType.multicastAdd.rawValue)),
            ("XEN_NETIF_EXTRA_TYPE_MCAST_DEL", Int(ExtraType.multicastDelete.rawValue)),
            ("XEN_NETIF_EXTRA_TYPE_HASH", Int(ExtraType.hash.rawValue)),
            ("XEN_NETIF_GSO_TYPE_TCPV4", Int(SegmentationType.tcp4.rawValue)),
            ("XEN_NETIF_GSO_TYPE_TCPV6", Int(SegmentationType.tcp6.rawValue)),
            ("XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS", Int(ControlType.getHashFlags.rawValue)),
            ("XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING", Int(ControlType.setHashMapping.rawValue)),
            ("XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE", Int(ControlType.getGrantMappingSize.rawValue)),
            ("XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING", Int(ControlType.addGrantMapping.rawValue)),
            ("XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING", Int(ControlType.deleteGrantMapping.rawValue)),
            ("XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW", Int(ControlStatus.bufferOverflow.rawValue)),
            ("XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP", Int(HashTypes.ipv6TCP.rawValue)),
        ] { probe.expect(name, value) }
        #expect(try probe.objections() == "")
    }

    @Test func slotsComeBackAsTheyWent() throws {
        let region = try SharedRegion(anonymous: 4096)
        let request = TransmitRequest(
            reference: GrantReference(0xDEAD_BEEF), offset: 0x1234, flags: [.moreData, .extraInfo], id: 0x5678, size: 0x9ABC)
        TransmitSlot(request).store(region, 64)
        #expect(TransmitSlot(loading: region, 64).request == request)
        #expect(region.bytes(at: 64, count: 12) == [0xEF, 0xBE, 0xAD, 0xDE, 0x34, 0x12, 0x0C, 0, 0x78, 0x56, 0xBC, 0x9A])
        let response = ReceiveResponse(id: 7, offset: 2, flags: .checksumBlank, status: -1)
        ReceiveSlot(response).store(region, 64)
        #expect(ReceiveSlot(loading: region, 64).response == response)
        let mac = MACAddress("01:00:5e:00:00:fb")!
        let extra = ExtraInfo(multicast: mac, isAdded: true)
        #expect(extra.multicastAddress == mac && extra.type == .multicastAdd && !extra.hasMore)
        let control = ControlRequest(id: 1, rawType: 9, 2, 3, 4)
        control.store(region, 64)
        #expect(ControlRequest(loading: region, 64) == control)
    }

    /// attacks.md B5: a response's own bytes and no others.
    @Test func B5_responsesChangeTheirOwnBytesOnly() throws {
        let region = try SharedRegion(anonymous: 4096)
        for size in [4, 8, 12] {
            region.fill(0, count: 256, with: 0xA5)
            switch size {
            case 4: TransmitResponse(id: 0, status: .okay).store(region, 64)
            case 8: ReceiveSlot(ReceiveResponse(id: 0, status: 0)).store(region, 64)
            default: ControlResponse(id: 0, rawType: 0, rawStatus: 0).store(region, 64)
            }
            #expect(region.bytes(at: 64, count: size) == [UInt8](repeating: 0, count: size))
            #expect(region.bytes(at: 64 + size, count: 32) == [UInt8](repeating: 0xA5, count: 32))
        }
    }
}

/// Slots from a list.
private struct ListedSlots: TransmitSlotSource {
    var slots: [TransmitSlot]
    mutating func nextTransmitSlot() throws(Never) -> TransmitSlot? { slots.isEmpty ? nil : slots.removeFirst() }
}

@Suite struct TransmitPacketTests {
    private func verdict(_ slots: [TransmitSlot]) -> (TransmitVerdict, consumed: Int, TransmitPacket) {
        var packet = TransmitPacket()
        var source = ListedSlots(slots: Array(slots.dropFirst()))
        let verdict = packet.assemble(slots[0], from: &source)
        #expect(packet.slotCount == slots.count - source.slots.count, "a response for each slot, and no more")
        return (verdict, packet.slotCount, packet)
    }

    private func chain(_ sizes: [Int], total: Int? = nil) -> [TransmitSlot] {
        sizes.enumerated().map { index, size in
            TransmitSlot(
                TransmitRequest(
                    reference: GrantReference(1), flags: index + 1 < sizes.count ? .moreData : [], id: UInt16(index),
                    size: UInt16(index == 0 ? total ?? sizes.reduce(0, +) : size)))
        }
    }

    @Test func B22_everySlotCount() {
        for count in 1...40 {
            let (verdict, _, packet) = verdict(chain([Int](repeating: 100, count: count)))
            switch count {
            case 1...19:
                #expect(verdict == .packet, "\(count) slots")
                #expect(packet.parts.map { Int($0.byteCount) } == [Int](repeating: 100, count: count))
            case 20...21: #expect(verdict == .drop(.tooManySlots(count == 20 ? 19 : 19)), "\(count) slots")
            default:
                guard case .fatal(.tooManySlots) = verdict else {
                    Issue.record("\(count) slots: \(verdict)")
                    continue
                }
            }
        }
    }

    @Test func B23_extrasThatDoNotEndOrAreUnknown() {
        var first = TransmitRequest(reference: GrantReference(1), flags: .extraInfo, id: 0, size: 100)
        for type in UInt8.min...UInt8.max where ExtraType(rawValue: type) == nil {
            #expect(verdict([TransmitSlot(first), TransmitSlot(ExtraInfo(word: UInt64(type)))]).0 == .fatal(.extraType(type)))
        }
        var more = ExtraInfo(segmenting: .tcp4, size: 1448)
        more.hasMore = true
        #expect(verdict([TransmitSlot(first)]).0 == .fatal(.unfinishedExtras))
        #expect(verdict([TransmitSlot(first), TransmitSlot(more)]).0 == .fatal(.unfinishedExtras))
        #expect(verdict([TransmitSlot(first)] + [TransmitSlot](repeating: TransmitSlot(more), count: 250)).consumed == 3)
        first.flags.insert(.moreData)
        let multicast = ExtraInfo(multicast: .broadcast, isAdded: true)
        #expect(verdict([TransmitSlot(first), TransmitSlot(multicast)]).0 == .fatal(.multicastWithData))
    }

    @Test func B24_segmentation() {
        let first = TransmitRequest(reference: GrantReference(1), flags: .extraInfo, id: 0, size: 100)
        for type in UInt8.min...UInt8.max {
            let extra = ExtraInfo(word: 1 | 1448 << 16 | UInt64(type) << 32)
            let expected: TransmitVerdict = type == 1 || type == 2 ? .packet : .fatal(.segmentationType(type))
            #expect(verdict([TransmitSlot(first), TransmitSlot(extra)]).0 == expected)
        }
        #expect(verdict([TransmitSlot(first), TransmitSlot(ExtraInfo(segmenting: .tcp4, size: 0))]).0 == .fatal(.segmentSize(0)))
    }

    @Test func B25_sizes() {
        for size in 0..<14 { #expect(verdict(chain([size])).0 == .drop(.tooShort(size))) }
        #expect(verdict(chain([14])).0 == .packet)
        // 64 KiB and a bit: the first size wrapped.
        #expect(
            verdict(chain([4096] + [Int](repeating: 4096, count: 16), total: 4096)).0 == .drop(.emptySlot)
                || verdict(chain([4096] + [Int](repeating: 4096, count: 16), total: 100)).0
                    == .drop(.continuationTooLarge(4096, left: 100))
        )
        var open = chain([100, 100])
        open.removeLast()
        #expect(verdict(open).0 == .fatal(.unfinishedPacket))
    }

    @Test func B14_offsetsAtTheEdgeOfAPage() {
        for offset in [0, 1, 3995, 3996, 3997, 4095, 4096, 65535] {
            let request = TransmitRequest(reference: GrantReference(1), offset: UInt16(offset), id: 0, size: 100)
            let expected: TransmitVerdict = offset + 100 <= 4096 ? .packet : .fatal(.crossesPage(offset: offset, byteCount: 100))
            #expect(verdict([TransmitSlot(request)]).0 == expected, "offset \(offset)")
        }
    }

    /// attacks.md B13, B15: every way to cut up to 18 bytes into slots, empty ones too.
    @Test func B15_everyCompositionWithEmptySlots() {
        func walk(_ left: Int, _ sizes: [Int]) {
            if left == 0 || sizes.count == 5 {
                let total = sizes.reduce(0, +)
                guard !sizes.isEmpty else { return }
                let expected: TransmitVerdict =
                    sizes.dropFirst().contains(0)
                    ? .drop(.emptySlot) : total < 14 ? .drop(.tooShort(total)) : sizes[0] == 0 ? .drop(.emptySlot) : .packet
                #expect(verdict(chain(sizes)).0 == expected, "\(sizes)")
                return
            }
            for size in [0, 1, 5, left] where size <= left { walk(left - size, sizes + [size]) }
        }
        walk(18, [])
        walk(13, [])
    }
}
