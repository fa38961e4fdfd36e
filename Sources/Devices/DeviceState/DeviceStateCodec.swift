// A state as bytes, little-endian: "CWDV", version, kind, transport, flags (0), count; then each attribute as group,
// number, index, flags (bit 0: has to be understood), zero, length, bytes, and zeroes to a multiple of eight; last a
// record of group 0xFFFF, whose value is the CRC-32C of all before it.

extension DeviceState {
    /// The version that is written, and the only one that is read.
    public static let version: UInt16 = 1
    private static let magic: [UInt8] = Array("CWDV".utf8)
    private static let sumGroup: UInt16 = 0xFFFF

    /// The state as bytes.
    public var encoded: [UInt8] {
        var bytes = Self.magic
        for half in [Self.version, kind.rawValue, transport.rawValue, 0] { bytes += Self.little(half) }
        bytes += Self.little(UInt32(attributes.count))
        for attribute in attributes { bytes += Self.record(attribute) }
        let sum = CRC32C.sum(bytes)
        return bytes + Self.end(sum)
    }

    /// The state that `bytes` are. Attributes that are not understood and need not be are left out.
    /// - Parameter understands: whether the caller knows what an attribute of this group and number means.
    public init(decoding bytes: [UInt8], understands: (_ group: UInt16, _ number: UInt16) -> Bool) throws(DeviceStateError) {
        guard bytes.starts(with: Self.magic) else {
            throw Self.magic.starts(with: bytes) ? .truncated(byteCount: bytes.count) : .notAState
        }
        var reader = Reader(bytes, at: Self.magic.count)
        let version = try reader.next(UInt16.self)
        guard version == Self.version else { throw .unknownVersion(version) }
        let (kind, transport) = (try reader.next(UInt16.self), try reader.next(UInt16.self))
        _ = try reader.next(UInt16.self)
        let count = try reader.next(UInt32.self)
        var attributes: [Attribute] = []
        for _ in 0..<count { attributes.append(try reader.attribute()) }
        // The sum first: what it does not vouch for is not to be reasoned about.
        let end = Self.end(CRC32C.sum(bytes[..<reader.place]))
        guard bytes.count - reader.place >= end.count else { throw .truncated(byteCount: bytes.count) }
        guard bytes[reader.place...].elementsEqual(end) else { throw .damaged }
        guard let kind = Kind(rawValue: kind), let transport = Transport(rawValue: transport) else {
            throw .unknownKind(kind: kind, transport: transport)
        }
        for attribute in attributes where attribute.isRequired && !understands(attribute.group, attribute.number) {
            throw .notUnderstood(group: attribute.group, number: attribute.number)
        }
        self.init(kind, over: transport, attributes.filter { understands($0.group, $0.number) })
    }

    private static func little<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
        (0..<Number.bitWidth / 8).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) }
    }

    private static func record(_ attribute: Attribute) -> [UInt8] {
        var bytes = little(attribute.group) + little(attribute.number) + little(attribute.index)
        bytes += little(UInt16(attribute.isRequired ? 1 : 0)) + little(UInt16(0)) + little(UInt32(attribute.bytes.count))
        bytes += attribute.bytes
        return bytes + Array(repeating: 0, count: padding(attribute.bytes.count))
    }

    /// The last record, for so much a sum.
    private static func end(_ sum: UInt32) -> [UInt8] {
        var last = Attribute(.identity, 0, little(sum))
        last.group = sumGroup
        return record(last)
    }

    private static func padding(_ count: Int) -> Int { (8 - count % 8) % 8 }

    /// Takes numbers and records off bytes, and never goes beyond them.
    private struct Reader {
        private let bytes: [UInt8]
        private(set) var place: Int

        init(_ bytes: [UInt8], at place: Int) {
            self.bytes = bytes
            self.place = place
        }

        private mutating func take(_ count: Int) throws(DeviceStateError) -> ArraySlice<UInt8> {
            guard count <= bytes.count - place else { throw .truncated(byteCount: bytes.count) }
            defer { place += count }
            return bytes[place..<place + count]
        }

        mutating func next<Number: FixedWidthInteger>(_ type: Number.Type) throws(DeviceStateError) -> Number {
            try take(Number.bitWidth / 8).reversed().reduce(0) { $0 << 8 | Number(truncatingIfNeeded: $1) }
        }

        mutating func attribute() throws(DeviceStateError) -> Attribute {
            var attribute = Attribute(.identity, 0, [])
            (attribute.group, attribute.number) = (try next(UInt16.self), try next(UInt16.self))
            attribute.index = try next(UInt32.self)
            attribute.isRequired = try next(UInt16.self) & 1 != 0
            _ = try next(UInt16.self)
            let count = Int(try next(UInt32.self))
            attribute.bytes = Array(try take(count))
            _ = try take(DeviceState.padding(count))
            return attribute
        }
    }
}
