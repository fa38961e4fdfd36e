// The store's wire form (xen/io/xs_wire.h): a sixteen-byte header and at most 4096 bytes. No I/O here.

/// A message's kind (`enum xsd_sockmsg_type`). Raw values are Xen's.
public enum StoreMessageType: UInt32, Sendable, CaseIterable {
    case control = 0
    case directory = 1
    case read = 2
    case getPermissions = 3
    case watch = 4
    case unwatch = 5
    case transactionStart = 6
    case transactionEnd = 7
    case introduce = 8
    case release = 9
    case getDomainPath = 10
    case write = 11
    case makeDirectory = 12
    case remove = 13
    case setPermissions = 14
    case watchEvent = 15
    case error = 16
    case isDomainIntroduced = 17
    case resume = 18
    case setTarget = 19
    // 20 was RESTRICT and is invalid now.
    case resetWatches = 21
    case directoryPart = 22
}

/// The protocol's fixed sizes, all in bytes (xs_wire.h).
public enum StoreWire {
    /// `sizeof(struct xsd_sockmsg)`.
    public static let headerSize = 16
    /// `XENSTORE_PAYLOAD_MAX`: a longer message ends the connection, in both directions.
    public static let payloadMax = 4096
    /// `XENSTORE_ABS_PATH_MAX`.
    public static let absolutePathMax = 3072
    /// `XENSTORE_REL_PATH_MAX`.
    public static let relativePathMax = 2048
}

/// One message, header and payload. The type stays a number: a peer may send one that nobody knows.
public struct StoreMessage: Hashable, Sendable {
    /// `enum xsd_sockmsg_type` as sent.
    public var type: UInt32
    /// Echoed in the reply.
    public var request: UInt32
    /// The transaction, 0 for none.
    public var transaction: UInt32
    /// At most `StoreWire.payloadMax` bytes.
    public var payload: [UInt8]

    /// A message of a known type.
    public init(_ type: StoreMessageType, request: UInt32 = 0, transaction: UInt32 = 0, payload: [UInt8] = []) {
        self.init(rawType: type.rawValue, request: request, transaction: transaction, payload: payload)
    }

    /// A message of any type.
    public init(rawType: UInt32, request: UInt32, transaction: UInt32, payload: [UInt8]) {
        self.type = rawType
        self.request = request
        self.transaction = transaction
        self.payload = payload
    }

    /// Header and payload as they travel. The header is in the machine's byte order: both ends share the machine.
    public var bytes: [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(StoreWire.headerSize + payload.count)
        for word in [type, request, transaction, UInt32(truncatingIfNeeded: payload.count)] {
            for shift in stride(from: UInt32(0), to: 32, by: 8) {
                out.append(UInt8(truncatingIfNeeded: word.littleEndian >> shift))
            }
        }
        out += payload
        return out
    }
}

/// Strings as the wire has them: each followed by a NUL.
package func wireStrings(_ strings: [String]) -> [UInt8] {
    var out: [UInt8] = []
    for string in strings {
        out += string.utf8
        out.append(0)
    }
    return out
}
