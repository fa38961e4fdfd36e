// Which multicast frames a frontend wants (xen/io/netif.h, "Multicast control").

import LinuxSystem

/// A frontend's multicast addresses, and whether it has asked to choose at all.
struct MulticastFilter: Equatable, Sendable {
    /// The addresses that it wants; nil: it has not asked to choose, and gets all.
    private(set) var wanted: Set<UInt64>?
    /// There may be more that it wants, which a predecessor of this process knew and this one does not: all come
    /// through, and changes are only noted, until it ceases to choose.
    private(set) var isIncomplete: Bool

    /// Addresses that one frontend may name.
    static let mostAddresses = 64

    /// As a frontend begins that asks to choose, or does not.
    /// - Parameter isIncomplete: whether it may have named addresses already.
    init(isOn: Bool, isIncomplete: Bool = false) {
        wanted = isOn ? [] : nil
        self.isIncomplete = isOn && isIncomplete
    }

    /// What was written down; nil if it makes no sense.
    init?(isOn: Bool, isIncomplete: Bool, _ addresses: [UInt64]) {
        self.init(isOn: isOn, isIncomplete: isIncomplete)
        guard isOn || (addresses.isEmpty && !isIncomplete), addresses.count <= Self.mostAddresses else { return nil }
        for address in addresses {
            guard address < 1 << 48, MACAddress(littleEndian: address).isMulticast, wanted?.insert(address).inserted == true else {
                return nil
            }
        }
    }

    /// Whether there are frames that are not wanted.
    var filters: Bool { wanted != nil && !isIncomplete }

    /// The same in memory of its own: see `ReceiveSideScaling.separate`.
    var separate: MulticastFilter {
        var copy = self
        copy.wanted = wanted.map { Set($0.map { $0 }) }
        return copy
    }

    /// The frontend changed its mind about whether it chooses (`feature-dynamic-multicast-control`).
    mutating func setControl(_ isOn: Bool) { if isOn != (wanted != nil) { self = MulticastFilter(isOn: isOn) } }

    /// Adds or removes an address; false if there are too many, or it is no group's.
    mutating func set(_ address: MACAddress, isAdded: Bool) -> Bool {
        guard let wanted, address.isMulticast else { return false }
        let number = address.littleEndian
        if !isAdded {
            self.wanted?.remove(number)
        } else if !wanted.contains(number) {
            guard wanted.count < Self.mostAddresses else { return false }
            self.wanted?.insert(number)
        }
        return true
    }

    /// Whether the frontend wants frames for `address`.
    @inline(__always)
    func wants(_ address: MACAddress) -> Bool {
        guard let wanted, !isIncomplete, address.isMulticast, address != .broadcast else { return true }
        return wanted.contains(address.littleEndian)
    }
}
