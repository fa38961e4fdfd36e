// What a vif's features mean for a single frame.

extension NetworkFeatures {
    /// The work that whoever has these features takes over.
    public var abilities: PeerAbilities {
        var set: PeerAbilities = []
        if contains(.checksum4) { set.insert(.checksum4) }
        if contains(.checksum6) { set.insert(.checksum6) }
        if contains(.tcp4) { set.insert(.tcp4) }
        if contains(.tcp6) { set.insert(.tcp6) }
        return set
    }
}
