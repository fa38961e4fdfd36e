// A specification's error, with the place.

/// Why a specification does not parse: which parameter, which column, and the line with a caret under the place.
public struct SpecificationError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was being parsed: `disk` or `vif`.
    public let subject: String
    /// The parameter at fault (`format`, `vdev`…); nil where the specification as a whole is.
    public let parameter: String?
    /// What is wrong with it.
    public let reason: String
    /// Where, counted from 1 in characters of `specification`.
    public let column: Int
    /// The text as it was given.
    public let specification: String

    init(_ subject: String, parameter: String?, column: Int, in specification: String, _ reason: String) {
        self.subject = subject
        self.parameter = parameter
        self.column = column
        self.specification = specification
        self.reason = reason
    }

    /// The message's first line, without the caret line.
    public var summary: String {
        let place = parameter.map { "\(subject): \($0)" } ?? subject
        return "\(place): \(reason) (column \(column))"
    }

    /// Three lines: the message, the specification, a caret under the column.
    public var description: String {
        "\(summary)\n  \(printable(specification))\n  \(String(repeating: " ", count: max(0, column - 1)))^"
    }
}

/// `text` with control characters replaced one for one, so that a caret stays in its column and a terminal stays sane.
public func printable(_ text: String) -> String {
    String(text.map { $0.unicodeScalars.contains { $0.properties.generalCategory == .control } ? "?" : $0 })
}
