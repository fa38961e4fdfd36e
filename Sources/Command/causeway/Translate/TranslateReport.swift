// What `causeway translate` found, in words and as JSON.

import CommandSupport
import FoundationEssentials
import FrameMapReaders
import FrameMaps

struct TranslateReport {
    let source: TranslateSource
    let contiguity: Contiguity
    var answers: [TranslateAnswer] = []
    /// nil: not checked.
    var findings: TableFindings?
    var difference: TableDifference?
    /// The file with the pages, and where in it they are.
    var contents: (path: String, places: [ContentsPlace])?

    init(_ source: TranslateSource) {
        self.source = source
        contiguity = Contiguity(source.snapshot.map)
    }

    /// Whether the exit status says that something is wrong.
    var isBad: Bool { findings.map { $0.count > 0 } ?? false || difference.map { $0.count > 0 } ?? false }

    private var knowsMachine: Bool { source.snapshot.map.model.knowsMachineFrames }

    // MARK: Words

    func lines(asked: Bool, summary: Bool) -> [String] {
        var lines = answers.flatMap { $0.lines(knowsMachine: knowsMachine) }
        if summary { lines += summaryLines }
        if let findings {
            lines += checkLines(findings)
        } else if source.snapshot.findings.count > 0 {
            lines.append(
                "warning     \(source.snapshot.findings.count) finding\(plural(source.snapshot.findings.count)) in the table; --check names them"
            )
        }
        if let difference { lines += differenceLines(difference) }
        if let contents { lines += ["contents    \(contents.path)"] + contents.places.map { "  \($0.words)" } }
        return lines
    }

    private var summaryLines: [String] {
        let table = source.snapshot
        func frame(_ number: UInt64) -> String { knowsMachine ? "\(Mfn(rawValue: number))" : "\(Gfn(rawValue: number))" }
        var lines = [source.title, "table       \(table.usedCount) of \(table.entryCount) entries in use"]
        guard let first = contiguity.firstPfn, let last = contiguity.lastPfn, let lowest = contiguity.lowestFrame,
            let highest = contiguity.highestFrame, let longest = contiguity.longest
        else { return lines + ["pages       none"] }
        let others = [(contiguity.foreign, "foreign"), (contiguity.identity, "identity")].filter { $0.0 > 0 }.map {
            ", \($0.0) \($0.1)"
        }.joined()
        lines += [
            "pages       \(contiguity.pages) (\(size(contiguity.pages)))\(others), \(Pfn(rawValue: first)) to \(Pfn(rawValue: last)), "
                + "\(contiguity.holes) without a frame in \(contiguity.gaps) gap\(plural(contiguity.gaps))",
            "frames      \(frame(lowest)) to \(frame(highest))",
            "contiguity  \(contiguity.runs) run\(plural(contiguity.runs)), \(decimal(contiguity.pages, contiguity.runs)) pages each; "
                + "the longest \(longest.pages) pages (\(size(longest.pages))) from \(Pfn(rawValue: longest.pfn)) on; "
                + "\(contiguity.largePages) aligned piece\(plural(contiguity.largePages)) of 2 MiB",
        ]
        let rows = contiguity.classes.enumerated().filter { $1.runs > 0 }.map { power, entry in
            [
                power == 0 ? "1" : "\(1 << power) to \((2 << power) - 1)", "\(entry.runs)", "\(entry.pages)",
                decimal(entry.pages * 100, contiguity.pages),
            ]
        }
        return lines + Table.lines([["pages in a run", "runs", "pages", "%"]] + rows).map { "  " + $0 }
    }

    private func checkLines(_ findings: TableFindings) -> [String] {
        if findings.count == 0 {
            let what =
                knowsMachine
                ? "each frame comes back to its pfn, none is there twice, none out of range"
                : "no pfn is there twice, none out of range"
            return ["check       good: \(what)"]
        }
        var lines = ["check       \(findings.count) finding\(plural(findings.count))"]
        lines += findings.records.map { "  \($0)" }
        if findings.count > UInt64(findings.records.count) {
            lines.append("  and \(findings.count - UInt64(findings.records.count)) more")
        }
        return lines
    }

    private func differenceLines(_ difference: TableDifference) -> [String] {
        if difference.count == 0 { return ["compared    the same in all \(difference.same) pages"] }
        var lines = ["compared    \(difference.count) page\(plural(difference.count)) differ, \(difference.same) are the same"]
        lines += difference.changes.map { "  \($0)" }
        if difference.count > UInt64(difference.changes.count) {
            lines.append("  and \(difference.count - UInt64(difference.changes.count)) more")
        }
        return lines
    }

    private func plural(_ count: UInt64) -> String { count == 1 ? "" : "s" }

    /// `256 MiB`.
    private func size(_ pages: UInt64) -> String {
        let kibibytes = pages * 4
        for (unit, shift) in [("TiB", 30), ("GiB", 20), ("MiB", 10)] as [(String, UInt64)] where kibibytes >= 1 << shift {
            return kibibytes % (1 << shift) == 0 ? "\(kibibytes >> shift) \(unit)" : "\(decimal(kibibytes, 1 << shift)) \(unit)"
        }
        return "\(kibibytes) KiB"
    }

    /// A quotient with one decimal.
    private func decimal(_ dividend: UInt64, _ divisor: UInt64) -> String {
        let tenths = divisor == 0 ? 0 : (dividend * 10 + divisor / 2) / divisor
        return "\(tenths / 10).\(tenths % 10)"
    }

    // MARK: JSON

    var json: String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(document) else { return "{}" }
        return String(decoding: data, as: UTF8.self)
    }

    private var document: TranslateDocument {
        let table = source.snapshot
        var document = TranslateDocument(
            source: source.name, kind: source.dump == nil ? "domain" : "dump", model: table.map.model.rawValue,
            entries: table.entryCount,
            used: table.usedCount, local: contiguity.local, identity: contiguity.identity, foreign: contiguity.foreign,
            holes: contiguity.holes,
            gaps: contiguity.gaps, runs: contiguity.runs, largePages: contiguity.largePages)
        document.xen = source.dump?.header.xenVersion
        document.processors = source.dump?.header.processors
        document.firstPfn = contiguity.firstPfn
        document.lastPfn = contiguity.lastPfn
        document.lowestFrame = contiguity.lowestFrame
        document.highestFrame = contiguity.highestFrame
        document.longestRun = contiguity.longest.map { .init(pfn: $0.pfn, frame: $0.frame, pages: $0.pages) }
        document.runClasses = contiguity.classes.enumerated().filter { $1.runs > 0 }.map {
            .init(atLeast: 1 << $0, runs: $1.runs, pages: $1.pages)
        }
        document.answers = answers.map { answer in
            .init(
                question: answer.question.kind.rawValue, first: answer.question.first, count: answer.question.count,
                runs: answer.runs.map { .init(pfn: $0.pfn, frame: $0.frame, pages: $0.count, kind: $0.kind) })
        }
        document.check = findings.map { .init(findings: $0.count, first: $0.records.map(\.description)) }
        document.contents = contents?.places.map {
            .init(question: $0.kind.rawValue, first: $0.first, count: $0.count, missing: $0.missing, offset: $0.offset)
        }
        document.difference = difference.map {
            .init(
                same: $0.same, different: $0.count,
                first: $0.changes.map { .init(pfn: $0.pfn.rawValue, frame: $0.first?.rawValue, other: $0.second?.rawValue) })
        }
        return document
    }
}

/// What `--json` prints; numbers are decimal, what is not there is left out.
struct TranslateDocument: Encodable {
    struct Longest: Encodable { var pfn, frame, pages: UInt64 }
    struct RunClass: Encodable { var atLeast: Int, runs, pages: UInt64 }
    struct Run: Encodable {
        var pfn, frame: UInt64?
        var pages: UInt64
        var kind: String
    }
    struct Answer: Encodable {
        var question: String
        var first, count: UInt64
        var runs: [Run]
    }
    struct Check: Encodable {
        var findings: UInt64
        var first: [String]
    }
    struct Contents: Encodable {
        var question: String
        var first, count, missing, offset: UInt64
    }
    struct Change: Encodable {
        var pfn: UInt64
        var frame, other: UInt64?
    }
    struct Difference: Encodable {
        var same, different: UInt64
        var first: [Change]
    }
    var source, kind, model: String
    var xen: String?
    var processors: UInt64?
    var entries, used, local, identity, foreign, holes, gaps, runs, largePages: UInt64
    var firstPfn, lastPfn, lowestFrame, highestFrame: UInt64?
    var longestRun: Longest?
    var runClasses: [RunClass] = []
    var answers: [Answer] = []
    var check: Check?
    var difference: Difference?
    var contents: [Contents]?
}
