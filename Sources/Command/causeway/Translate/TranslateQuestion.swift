// What is asked on the command line, and what a table answers.

import CommandSupport
import FrameMapReaders
import FrameMaps

/// `pfn RANGE` or `mfn RANGE`.
struct TranslateQuestion {
    enum Kind: String { case pfn, mfn }
    let kind: Kind
    let first: UInt64
    let count: UInt64
    /// Frames of one question: what is printed line by line.
    static let most: UInt64 = 1 << 24

    init(_ kind: String, _ range: String) throws(Failure) {
        guard let kind = Kind(rawValue: kind) else { throw .usage("translate: \(kind): a question begins with pfn or mfn") }
        self.kind = kind
        func bad(_ why: String) -> Failure { .usage("translate: \(kind.rawValue) \(range): \(why)") }
        let separator = range.firstIndex { $0 == "-" || $0 == "+" }
        let head = range[..<(separator ?? range.endIndex)]
        guard let first = Self.number(head) else { throw bad("`\(head)` is no number") }
        self.first = first
        guard let separator else {
            count = 1
            guard first < frameNumberLimit else { throw bad("beyond the last frame of a 64-bit address space") }
            return
        }
        let tail = range[range.index(after: separator)...]
        guard let second = Self.number(tail) else { throw bad("`\(tail)` is no number") }
        if range[separator] == "-" {
            guard second >= first else { throw bad("the last frame is below the first") }
            guard second < frameNumberLimit else { throw bad("beyond the last frame of a 64-bit address space") }
            count = second - first + 1
        } else {
            count = second
        }
        guard count > 0 else { throw bad("no frames") }
        guard count <= Self.most else { throw bad("\(count) frames; at most \(Self.most) are answered at once") }
        guard first < frameNumberLimit, count <= frameNumberLimit - first else {
            throw bad("beyond the last frame of a 64-bit address space")
        }
    }

    static func number(_ text: Substring) -> UInt64? {
        if text.hasPrefix("0x") || text.hasPrefix("0X") {
            let digits = text.dropFirst(2)
            return digits.allSatisfy(\.isHexDigit) ? UInt64(digits, radix: 16) : nil
        }
        return text.allSatisfy { $0.isASCII && $0.isNumber } ? UInt64(text) : nil
    }
}

/// What a table says to a question: runs, present or not, in order.
struct TranslateAnswer {
    /// Pages in a row, from `pfn` and `frame` on; the side that was not asked for is nil if there is nothing.
    struct Run {
        var pfn: UInt64?
        var frame: UInt64?
        var count: UInt64
        var kind: String
    }
    let question: TranslateQuestion
    private(set) var runs: [Run] = []

    init(_ question: TranslateQuestion, _ table: TableSnapshot) {
        self.question = question
        for step in 0..<question.count {
            let number = question.first + step
            switch question.kind {
            case .pfn: add(Self.forward(number, table))
            case .mfn: add(Self.backward(number, table))
            }
        }
    }

    private static func forward(_ number: UInt64, _ table: TableSnapshot) -> Run {
        let pfn = Pfn(rawValue: number)
        let kind: String
        switch table.map.entry(at: pfn) {
        case .local: kind = "local"
        case .foreign: kind = "foreign"
        case .identity: kind = "identity"
        case .ballooned, .invalid: kind = table.aliases[number] == nil ? "none" : "alias"
        }
        return Run(pfn: number, frame: table.translate(pfn)?.frame.rawValue, count: 1, kind: kind)
    }

    private static func backward(_ number: UInt64, _ table: TableSnapshot) -> Run {
        // Of an auto-translated domain nobody can tell.
        guard table.map.model.knowsMachineFrames, let found = table.pfn(of: BusFrame(rawValue: number)) else {
            return Run(pfn: nil, frame: number, count: 1, kind: "none")
        }
        var run = forward(found.pfn.rawValue, table)
        run.frame = number
        return run
    }

    private mutating func add(_ run: Run) {
        func follows(_ before: UInt64?, _ count: UInt64, _ next: UInt64?) -> Bool {
            before == nil ? next == nil : before.map { $0 + count } == next
        }
        if var last = runs.last, last.kind == run.kind, follows(last.pfn, last.count, run.pfn),
            follows(last.frame, last.count, run.frame)
        {
            last.count += 1
            runs[runs.count - 1] = last
        } else {
            runs.append(run)
        }
    }

    /// The answer in words, a line a run.
    func lines(knowsMachine: Bool) -> [String] {
        runs.map { run in
            let pages = run.count == 1 ? "" : " for \(run.count) pages"
            let kind = run.kind == "local" ? "" : ", \(run.kind)"
            let pfn = run.pfn.map { Pfn(rawValue: $0).description }
            let frame = run.frame.map { knowsMachine ? Mfn(rawValue: $0).description : Gfn(rawValue: $0).description }
            switch question.kind {
            case .pfn:
                guard let pfn else { return "" }
                return frame.map { "\(pfn) is \($0)\(pages)\(kind)" } ?? "\(pfn)\(pages): no frame"
            case .mfn:
                let frame = Mfn(rawValue: run.frame ?? 0).description
                guard let pfn else {
                    return knowsMachine
                        ? "\(frame)\(pages): not the domain's" : "\(frame)\(pages): not known of an auto-translated domain"
                }
                return "\(frame) is \(pfn)\(pages)\(kind)"
            }
        }
    }
}
