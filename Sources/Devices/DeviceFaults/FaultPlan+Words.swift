// A plan as words, for the way to the device's process: `kind=delay`, `ms=50`. What a word says is looked at here, and
// whether it can be by `validate`.

extension FaultPlan {
    /// As `init(words:)` reads them.
    public var words: [String] {
        var words = ["kind=\(kind)", "side=\(side)", "every=\(every)", "seed=\(seed)"]
        if !name.isEmpty { words.append("name=\(name)") }
        if let count { words.append("count=\(count)") }
        if let milliseconds { words.append("ms=\(milliseconds)") }
        if !operations.isEmpty {
            words.append("operation=\(FaultOperation.allCases.filter(operations.contains).map(\.rawValue).joined(separator: ","))")
        }
        if let sectors { words.append("sectors=\(sectors.lowerBound)-\(sectors.upperBound)") }
        if let toward { words.append("toward=\(toward.rawValue)") }
        return words
    }

    /// What words say.
    /// - Throws: the first that says nothing.
    public init(words: [String]) throws(FaultError) {
        var kind: DeviceFault?
        for word in words where word.hasPrefix("kind=") { kind = DeviceFault(rawValue: String(word.dropFirst("kind=".count))) }
        guard let kind else { throw .badWord(words.first { $0.hasPrefix("kind=") } ?? "") }
        self.init(kind)
        for word in words {
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 2 else { throw .badWord(word) }
            try take(parts[0], parts[1])
        }
    }

    private mutating func take(_ option: String, _ value: String) throws(FaultError) {
        switch option {
        case "kind": break
        case "side": side = try Self.side("--side", value)
        case "name": name = value
        case "every": every = try Self.number("--every", value)
        case "seed": seed = try Self.number("--seed", value)
        case "count": count = try Self.number("--count", value)
        case "ms": milliseconds = try Self.number("--ms", value)
        case "operation": operations = try Self.operations(value)
        case "sectors": sectors = try Self.sectors(value)
        case "toward": toward = try Self.side("--toward", value)
        default: throw .badWord("\(option)=\(value)")
        }
    }

    /// `read`, `write,flush`.
    public static func operations(_ text: String) throws(FaultError) -> Set<FaultOperation> {
        var all: Set<FaultOperation> = []
        for word in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard let operation = FaultOperation(rawValue: String(word)) else {
                throw .badValue(
                    "--operation", text, "of \(FaultOperation.allCases.map(\.rawValue).joined(separator: ", ")), with commas")
            }
            all.insert(operation)
        }
        return all
    }

    /// `2048-4095`, both included, or `7`.
    public static func sectors(_ text: String) throws(FaultError) -> ClosedRange<UInt64> {
        let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { UInt64($0) }
        guard let first = ends.first ?? nil, let last = ends.last ?? nil, ends.count <= 2, first <= last else {
            throw .badValue("--sectors", text, "FIRST-LAST, in sectors of 512 bytes")
        }
        return first...last
    }

    private static func number(_ option: String, _ text: String) throws(FaultError) -> UInt64 {
        guard let number = UInt64(text) else { throw .badValue(option, text, "a number") }
        return number
    }

    private static func side(_ option: String, _ text: String) throws(FaultError) -> FaultSide {
        guard let side = FaultSide(rawValue: text) else { throw .badValue(option, text, "front or back") }
        return side
    }
}
