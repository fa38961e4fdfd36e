// Numbers in store nodes. What a peer wrote is capped in length and range before it means anything
// (protocol-rules.md 29).

import XenStore
import XenTypes

/// A node whose content is not what the protocol says.
public struct MalformedNode: Error, Hashable, Sendable, CustomStringConvertible {
    /// The node's path.
    public let path: String
    /// What is wrong with it, with the numbers.
    public let problem: String

    /// Names the node and the problem.
    public init(_ path: String, _ problem: String) {
        self.path = path
        self.problem = problem
    }

    /// `/local/…/ring-page-order: is "99", the limit is 5`.
    public var description: String { "\(path): \(problem)" }
}

/// Parsing of decimal numbers, strictly: digits only, no sign, no blanks, no prefix.
public enum StoreNumber {
    /// The number, or nil for anything but 1 to 20 digits that fit.
    public static func parse<N: FixedWidthInteger>(_ text: some StringProtocol, as type: N.Type = N.self) -> N? {
        let bytes = text.utf8
        guard !bytes.isEmpty, bytes.count <= 20, bytes.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }) else { return nil }
        return N(text, radix: 10)
    }

    /// A value from a peer, shortened for a message.
    public static func quote(_ text: String) -> String {
        let visible = text.unicodeScalars.prefix(40).map { $0.isASCII && $0.value >= 32 && $0.value < 127 ? Character($0) : "?" }
        return "\"" + String(visible) + (text.unicodeScalars.count > 40 ? "…\"" : "\"")
    }
}

/// Why a driver could not agree with its peer.
public enum XenbusError: Error, Sendable, CustomStringConvertible {
    /// The store refused or is gone.
    case store(StoreError)
    /// A node that must be there is not.
    case missing(String)
    /// A node that does not parse or is out of range.
    case malformed(MalformedNode)
    /// The domain has no device of this kind and number.
    case noDevice(DomainID)
    /// The device is of no more use.
    case unusable(String)

    /// One line that names the node.
    public var description: String {
        switch self {
        case .store(.disconnected(let why)): "\(StoreError.disconnected(why))"
        case .store(let error): "store: \(error)"
        case .missing(let path): "\(path): missing"
        case .malformed(let node): node.description
        case .unusable(let reason): reason
        case .noDevice(let domain): "domain \(domain) has no such device"
        }
    }

    /// Whether the connection to the store is gone, so that trying again on it is pointless.
    public var isDisconnected: Bool {
        if case .store(.disconnected) = self { true } else { false }
    }
}

extension StoreAccess {
    /// The value of a node, or nil where it is missing or may not be read: a dead peer's keys are no exception
    /// (protocol-rules.md 26).
    public func text(_ path: String) throws(XenbusError) -> String? {
        do { return try value(path) } catch { throw .store(error) }
    }

    /// The value of a node that must be there.
    public func requiredText(_ path: String) throws(XenbusError) -> String {
        guard let text = try text(path) else { throw .missing(path) }
        return text
    }

    /// A number within `range`, or nil where the node is missing.
    public func number<N: FixedWidthInteger>(_ path: String, in range: ClosedRange<N>) throws(XenbusError) -> N? {
        guard let text = try text(path) else { return nil }
        guard let value = StoreNumber.parse(text, as: N.self), range.contains(value) else {
            throw .malformed(
                MalformedNode(
                    path, "is \(StoreNumber.quote(text)), not a number from \(range.lowerBound) to \(range.upperBound)"))
        }
        return value
    }

    /// A number within `range` that must be there.
    public func requiredNumber<N: FixedWidthInteger>(_ path: String, in range: ClosedRange<N>) throws(XenbusError) -> N {
        guard let value = try number(path, in: range) else { throw .missing(path) }
        return value
    }

    /// A feature bit: 1 is on; 0, missing and anything else is off, as Linux's xenbus_read_unsigned with a default has
    /// it.
    public func flag(_ path: String, default fallback: Bool = false) throws(XenbusError) -> Bool {
        guard let text = try text(path) else { return fallback }
        guard let value = StoreNumber.parse(text, as: UInt32.self) else { return false }
        return value != 0
    }

    /// Writes a node, with this module's error.
    public func put(_ path: String, _ value: some CustomStringConvertible) throws(XenbusError) {
        do { try write(path, value.description) } catch { throw .store(error) }
    }

    /// Removes a node; one that is not there is no error.
    public func discardNode(_ path: String) throws(XenbusError) {
        do { try remove(path) } catch .refused("ENOENT", _) { return } catch { throw .store(error) }
    }

    /// A node's children; none where it is missing.
    public func names(_ path: String) throws(XenbusError) -> [String] {
        do { return try directory(path) } catch .refused("ENOENT", _) { return [] } catch { throw .store(error) }
    }
}
