// Ring slots in words, with the names of xen/io/netif.h in lower case.

import NetworkProtocol
import Packets

extension TraceRecord {
    /// What is worth knowing beside the frame: one line about the packet, one for each slot.
    public var comments: [String] {
        if kind == .note { return [text] }
        let way = kind == .transmit ? "transmit" : "receive"
        let reason = text.isEmpty ? "" : ": \(text)"
        return ["\(way), queue \(queue), \(status)\(reason)"] + (kind == .transmit ? transmitLines : receiveLines)
    }

    /// A request, its extras if it says that there are some, then requests as long as each says that there is more.
    private var transmitLines: [String] {
        var isExtra = false
        return slots.enumerated().map { index, slot in
            if isExtra {
                isExtra = slot.extra.hasMore
                return "slot \(index): \(slot.extra.words)"
            }
            let request = slot.request
            if index == 0 { isExtra = request.flags.contains(.extraInfo) }
            return "slot \(index): id \(request.id), page \(request.reference), offset \(request.offset), "
                + "\(request.size) bytes\(index == 0 ? " in all" : "")\(Self.words(request.flags))"
        }
    }

    private var receiveLines: [String] {
        var isExtra = false
        return slots.enumerated().map { index, slot in
            if isExtra {
                isExtra = slot.extra.hasMore
                return "slot \(index): \(slot.extra.words)"
            }
            let response = slot.response
            if index == 0 { isExtra = response.flags.contains(.extraInfo) }
            let size = response.status < 0 ? "\(NetworkStatus(rawValue: response.status))" : "\(response.status) bytes"
            return "slot \(index): id \(response.id), page \(slot.page), offset \(response.offset), \(size)"
                + Self.words(response.flags)
        }
    }

    private static func words(_ flags: TransmitFlags) -> String {
        words(flags.rawValue, ["csum_blank", "data_validated", "more_data", "extra_info"])
    }

    private static func words(_ flags: ReceiveFlags) -> String {
        words(flags.rawValue, ["data_validated", "csum_blank", "more_data", "extra_info"])
    }

    private static func words(_ bits: UInt16, _ names: [String]) -> String {
        if bits == 0 { return "" }
        var list = names.enumerated().filter { bits >> $0.offset & 1 != 0 }.map(\.element)
        let unknown = (bits >> names.count) << names.count
        if unknown != 0 { list.append("0x" + String(unknown, radix: 16)) }
        return ", " + list.joined(separator: " ")
    }
}

extension ExtraInfo {
    /// `extra gso tcpv4, segments of 1448 bytes`.
    var words: String {
        let more = hasMore ? ", more_extra" : ""
        switch type {
        case .segmentation:
            let kind = SegmentationType(rawValue: rawSegmentationType).map { $0 == .tcp4 ? "tcpv4" : "tcpv6" }
            return "extra gso \(kind ?? "type \(rawSegmentationType)"), segments of \(segmentSize) bytes\(more)"
        case .multicastAdd: return "extra mcast_add \(multicastAddress)\(more)"
        case .multicastDelete: return "extra mcast_del \(multicastAddress)\(more)"
        case .hash:
            let names = ["ipv4", "ipv4_tcp", "ipv6", "ipv6_tcp"]
            let over = byte(0) < 4 ? names[Int(byte(0))] : "type \(byte(0))"
            let algorithm = byte(1) == 1 ? "toeplitz" : "algorithm \(byte(1))"
            return "extra hash \(algorithm) over \(over), 0x\(String(hash, radix: 16))\(more)"
        case .xdp: return "extra xdp, headroom \(segmentSize)\(more)"
        case nil: return "extra of unknown type \(rawType)\(more)"
        }
    }
}
