// What a large frame is cut into.

/// Which protocol's segments a large packet is cut into (`XEN_NETIF_GSO_TYPE_*`).
public enum SegmentationType: UInt8, Sendable, CaseIterable {
    case tcp4 = 1
    case tcp6 = 2
}
