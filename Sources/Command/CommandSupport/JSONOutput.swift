// What `--json` prints.

import FoundationEssentials

/// One line of JSON on stdout, its keys in order of the alphabet.
package func printJSON(_ value: some Encodable) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // Nothing that is given to this can fail to be encoded: numbers are integers, or finite.
    guard let data = try? encoder.encode(value) else { return }
    printLine(String(decoding: data, as: UTF8.self))
}

/// A value in JSON whose kind is known only when it is there.
package enum JSONValue: Encodable {
    case number(UInt64)
    case negative(Int64)
    case text(String)
    case object([String: JSONValue])
    case array([JSONValue])
    case null

    /// A number if it is one, else text.
    package init(_ text: String) {
        self =
            UInt64(text).map(JSONValue.number) ?? (text.hasPrefix("-") ? Int64(text).map(JSONValue.negative) : nil) ?? .text(text)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .number(let number): try container.encode(number)
        case .negative(let number): try container.encode(number)
        case .text(let text): try container.encode(text)
        case .object(let object): try container.encode(object)
        case .array(let array): try container.encode(array)
        case .null: try container.encodeNil()
        }
    }
}
