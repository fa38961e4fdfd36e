// A device's ring as a person looks at it: where both sides are, and what is in work. Words and numbers only, for each
// transport has its own.

/// One ring at one moment.
public struct RingReport: Equatable, Sendable {
    /// A word's name and what it says.
    public struct Field: Equatable, Sendable {
        /// Without blanks.
        public let name: String
        /// A number, or words.
        public let value: String

        /// As given.
        public init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }

        /// A number.
        public init(_ name: String, _ value: some BinaryInteger) { self.init(name, "\(value)") }
    }

    /// Which of the device's: `queue 0`.
    public let name: String
    /// Where it is.
    public var fields: [Field]
    /// What is remarkable about it, a sentence each.
    public var notes: [String]
    /// Requests that were taken and not answered, the oldest first; the same fields for each.
    public var requests: [[Field]]

    /// As given.
    public init(_ name: String, fields: [Field], notes: [String] = [], requests: [[Field]] = []) {
        self.name = name
        self.fields = fields
        self.notes = notes
        self.requests = requests
    }
}

extension RingReport {
    /// As lines of words with tabs between them.
    static func lines(_ rings: [Self]) -> [String] {
        rings.flatMap { ring in
            ["ring\t\(ring.name)"] + ring.fields.map { "field\t\($0.name)\t\($0.value)" } + ring.notes.map { "note\t\($0)" }
                + ring.requests.map { fields in "request\t" + fields.map { "\($0.name)=\($0.value)" }.joined(separator: "\t") }
        }
    }

    /// From such lines; those that are something else are passed over.
    public static func rings(_ lines: [String]) -> [Self] {
        var rings: [Self] = []
        for line in lines {
            let words = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            if words.count == 2, words[0] == "ring" {
                rings.append(Self(words[1], fields: []))
                continue
            }
            guard var ring = rings.popLast() else { continue }
            switch (words[0], words.count) {
            case ("field", 3): ring.fields.append(Field(words[1], words[2]))
            case ("note", 2): ring.notes.append(words[1])
            case ("request", _): ring.requests.append(words.dropFirst().map(Self.field))
            default: break
            }
            rings.append(ring)
        }
        return rings
    }

    private static func field(_ text: String) -> Field {
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        return Field(parts[0], parts.count > 1 ? parts[1] : "")
    }
}
