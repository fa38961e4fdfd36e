// What a process says of its devices, line by line: words with tabs between them.

/// A line: whose, and a name and a number, or a word.
struct StatusLine: Hashable {
    /// What is said of it.
    enum Value: Hashable {
        case number(UInt64)
        case text(String)
    }

    var subject: String
    var name: String
    var value: Value

    /// Of text, a name with `=` before it: who is older passes over what is no number.
    var text: String {
        switch value {
        case .number(let number): "\(subject)\t\(name)\t\(number)\n"
        case .text(let text): "\(subject)\t=\(name)\t\(Self.oneLine(text))\n"
        }
    }

    /// Its number; 0 of a word.
    var number: UInt64 { if case .number(let number) = value { number } else { 0 } }

    init(_ subject: String, _ name: String, _ value: UInt64) {
        self.subject = subject
        self.name = name
        self.value = .number(value)
    }

    init(_ subject: String, _ name: String, text: String) {
        self.subject = subject
        self.name = name
        value = .text(text)
    }

    init?(_ text: Substring) {
        let fields = text.split(separator: "\t", omittingEmptySubsequences: false)
        guard fields.count == 3 else { return nil }
        if fields[1].hasPrefix("=") {
            self.init(String(fields[0]), String(fields[1].dropFirst()), text: String(fields[2]))
        } else if let number = UInt64(fields[2]) {
            self.init(String(fields[0]), String(fields[1]), number)
        } else {
            return nil
        }
    }

    /// A path may have any character in it.
    private static func oneLine(_ text: String) -> String {
        String(text.map { $0 == "\t" || $0.isNewline ? " " : $0 })
    }
}
