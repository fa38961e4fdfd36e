// Which VLANs an interface is in as a bridge's port: `vlan` of xl-network-configuration(5), in the specification and in
// the backend's node of that name.

/// An interface's VLANs.
public struct PortVlans: Hashable, Sendable, CustomStringConvertible {
    /// One VLAN, or several that are treated alike.
    public struct Term: Hashable, Sendable {
        /// The VLANs' numbers, 1 to 4094 each, ascending.
        public let numbers: [UInt16]
        /// Whether frames that come in without a tag are this VLAN's (`p`); one number only.
        public let isPrimary: Bool
        /// Whether frames go out without their tag (`u`, and `p`).
        public let isUntagged: Bool

        init(_ numbers: [UInt16], isPrimary: Bool, isUntagged: Bool) {
            self.numbers = numbers
            self.isPrimary = isPrimary
            self.isUntagged = isUntagged || isPrimary
        }
    }

    /// Why a text is none, and where in it, characters from its start.
    public struct Fault: Error, Hashable, Sendable, CustomStringConvertible {
        /// What is wrong.
        public let reason: String
        /// Characters before the place.
        public let place: Int
        /// As it is said where the text itself stands before it.
        public var description: String { "character \(place + 1): \(reason)" }
    }

    /// As they were given; no number is in two of them, and one is primary.
    public let terms: [Term]
    /// As it was written.
    public let description: String

    /// Numbers that a frame's tag can have.
    public static let numbers: ClosedRange<UInt16> = 1...4094

    /// Parses `10`, `10p/20`, `10p/30-39u/100+10x4`. A single number is primary, marked or not.
    public init(_ text: String) throws(Fault) {
        var terms: [Term] = []
        var place = 0
        var seen: Set<UInt16> = []
        for part in text.split(separator: "/", omittingEmptySubsequences: false) {
            let term = try Self.term(part, at: place, isOnly: part.count == text.count)
            if let twice = term.numbers.first(where: { seen.contains($0) }) {
                throw Fault(reason: "VLAN \(twice) is given twice", place: place)
            }
            if term.isPrimary, terms.contains(where: \.isPrimary) {
                throw Fault(reason: "a second `p`: frames without a tag are one VLAN's", place: place)
            }
            seen.formUnion(term.numbers)
            terms.append(term)
            place += part.count + 1
        }
        guard terms.contains(where: \.isPrimary) else {
            throw Fault(reason: "none is marked `p`: frames without a tag have to be one VLAN's", place: 0)
        }
        self.terms = terms
        description = text
    }

    private static func term(_ text: Substring, at place: Int, isOnly: Bool) throws(Fault) -> Term {
        let digits = text.prefix { $0.isDigit }
        let first = try number(digits, at: place, in: text)
        var rest = text.dropFirst(digits.count)
        var numbers = [first]
        if rest.first == "-" {
            let end = rest.dropFirst().prefix { $0.isDigit }
            let last = try number(end, at: place + digits.count + 1, in: text)
            guard last >= first else { throw Fault(reason: "`\(text)` runs backwards", place: place) }
            numbers = Array(first...last)
            rest = rest.dropFirst(1 + end.count)
        } else if rest.first == "+" {
            (numbers, rest) = try series(first, rest, at: place + digits.count, in: text)
        }
        switch rest {
        case "": return Term(numbers, isPrimary: isOnly && numbers.count == 1, isUntagged: false)
        case "u": return Term(numbers, isPrimary: isOnly && numbers.count == 1, isUntagged: true)
        case "p" where numbers.count == 1: return Term(numbers, isPrimary: true, isUntagged: true)
        case "p": throw Fault(reason: "`\(text)`: `p` is for one VLAN", place: place)
        default: throw Fault(reason: "`\(text)` is no VLAN such as 10, 10p, 20-29u or 100+10x4", place: place)
        }
    }

    /// `+OFFSETxCOUNT`: as many more, so far apart.
    private static func series(
        _ first: UInt16, _ text: Substring, at place: Int, in whole: Substring
    ) throws(Fault) -> ([UInt16], rest: Substring) {
        let offset = text.dropFirst().prefix { $0.isDigit }
        let behind = text.dropFirst(1 + offset.count)
        let count = behind.dropFirst().prefix { $0.isDigit }
        guard behind.first == "x", let step = UInt16(offset), step > 0, let more = UInt16(count) else {
            throw Fault(reason: "`\(whole)` is no series such as 100+10x4", place: place)
        }
        let last = Int(first) + Int(step) * Int(more)
        guard last <= Int(Self.numbers.upperBound) else {
            throw Fault(reason: "`\(whole)` goes on to \(last); VLANs are 1 to 4094", place: place)
        }
        return (stride(from: Int(first), through: last, by: Int(step)).map { UInt16($0) }, behind.dropFirst(1 + count.count))
    }

    private static func number(_ digits: Substring, at place: Int, in text: Substring) throws(Fault) -> UInt16 {
        guard let number = UInt16(digits), Self.numbers.contains(number) else {
            let what = digits.isEmpty ? text : digits
            throw Fault(reason: "`\(what)` is no VLAN: 1 to 4094", place: place)
        }
        return number
    }
}

extension Character {
    fileprivate var isDigit: Bool { self >= "0" && self <= "9" && utf8.count == 1 }
}
