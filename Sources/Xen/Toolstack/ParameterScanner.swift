// Cuts a specification into its comma-separated parameters and remembers where each began. Knows nothing of their
// meaning.

/// A piece of a specification with its place.
struct SpecificationToken: Hashable {
    var text: String
    /// Counted from 1, in characters.
    var column: Int

    /// `key` and `value` of `key=value` where the key looks like a parameter's name; nil otherwise.
    var keyAndValue: (key: String, value: SpecificationToken)? {
        guard let equals = text.firstIndex(of: "=") else { return nil }
        let key = text[..<equals]
        guard let first = key.first, first.isLowercaseLetter,
            key.allSatisfy({ $0.isLowercaseLetter || $0.isDecimalDigit || $0 == "-" || $0 == "_" })
        else { return nil }
        return (String(key), suffix(from: text.index(after: equals)))
    }

    /// The part from `index` on, with its own column.
    func suffix(from index: String.Index) -> SpecificationToken {
        .init(text: String(text[index...]), column: column + text.distance(from: text.startIndex, to: index))
    }
}

/// Walks a specification from left to right.
struct ParameterScanner {
    private let characters: [Character]
    private var position = 0

    init(_ specification: String) { characters = Array(specification) }

    /// The column of what comes next.
    var column: Int { position + 1 }

    /// What is left, from here to the end.
    var rest: ArraySlice<Character> { characters[position...] }

    /// Skips blanks before a parameter (xl ignores them there and nowhere else); false at the end.
    mutating func skipBlanks() -> Bool {
        while position < characters.count, [" ", "\t", "\n"].contains(characters[position]) { position += 1 }
        return position < characters.count
    }

    /// Takes up to the next comma and swallows the comma.
    mutating func takeParameter() -> SpecificationToken {
        let start = position
        while position < characters.count, characters[position] != "," { position += 1 }
        let token = SpecificationToken(text: String(characters[start..<position]), column: start + 1)
        if position < characters.count { position += 1 }
        return token
    }

    /// Takes `count` characters.
    mutating func take(_ count: Int) -> SpecificationToken {
        let end = min(position + count, characters.count)
        let token = SpecificationToken(text: String(characters[position..<end]), column: position + 1)
        position = end
        return token
    }

    /// Takes the whole rest; one comma at its very end is dropped, as in xl.
    mutating func takeRest() -> SpecificationToken {
        var token = take(characters.count - position)
        if token.text.hasSuffix(",") { token.text.removeLast() }
        return token
    }

    /// The leading run `[a-z][a-z0-9+]*` if a colon follows it: what could be a prefix or a scheme.
    func word(allowing extra: Set<Character> = []) -> String? {
        guard let colon = rest.firstIndex(of: ":") else { return nil }
        let word = rest[..<colon]
        guard let first = word.first, first.isLowercaseLetter,
            word.allSatisfy({ $0.isLowercaseLetter || $0.isDecimalDigit || extra.contains($0) })
        else { return nil }
        return String(word)
    }
}

extension Character {
    var isLowercaseLetter: Bool { self >= "a" && self <= "z" && utf8.count == 1 }
    var isDecimalDigit: Bool { self >= "0" && self <= "9" && utf8.count == 1 }
}
