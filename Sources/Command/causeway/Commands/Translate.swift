// causeway translate: looks frames up in a dump or in a running domain, checks the table, shows how the memory lies.

import ArgumentParser
import CommandSupport
import FrameMapReaders
import FrameMaps
import LiveDomains

struct Translate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Looks up and checks frames in a dump or in a running PV domain.",
        discussion: """
            SOURCE is a file that `xl dump-core` wrote, or on a Xen host the name or number of a PV domain. Questions come in pairs:
              pfn RANGE    where the domain's pages are        mfn RANGE    which pages of the domain machine frames are
            RANGE is N, FIRST-LAST or FIRST+COUNT; numbers may be hexadecimal (0x…). Without questions a summary is printed.

            Try:  xl dump-core guest guest.core
                  causeway translate guest.core --check --svg guest.svg
                  causeway translate guest.core pfn 0x1000+16 mfn 0x2a000
            """)

    @Argument(help: ArgumentHelp("A dump file, or a PV domain's name or number.", valueName: "source")) var source: String
    @Argument(help: ArgumentHelp("`pfn RANGE` or `mfn RANGE`, any number of them.", valueName: "question"))
    var words: [String] = []
    @Flag(
        help: "Checks the whole table; on this host's Xen, with --machine, against Xen's own. Exit status 1 if something is wrong.")
    var check = false
    @Flag(help: "With --check: also against the machine-to-phys table of the Xen that this host runs on.") var machine = false
    @Option(help: ArgumentHelp("Compares with another dump or domain; exit status 1 if they differ.", valueName: "source"))
    var compare: String?
    @Flag(help: "In a dump: the table that the domain itself kept, with its marks, found through its shared page.") var own = false
    @Flag(help: "Pauses a running domain while its table is read.") var pause = false
    @Option(help: ArgumentHelp("Draws how contiguous the memory is.", valueName: "file")) var svg: String?
    @Option(
        help: ArgumentHelp(
            "Writes the pages that the questions found: page i of a question i × 4096 bytes from its first, zeros where there is none.",
            valueName: "file"))
    var contents: String?
    @Flag(help: "One JSON object.") var json = false

    func validate() throws {
        if words.count % 2 != 0 {
            throw ValidationError("a question is `pfn RANGE` or `mfn RANGE`; \(words.last ?? "") has no second half")
        }
        if machine && !check { throw ValidationError("--machine goes with --check") }
        if contents != nil && words.isEmpty { throw ValidationError("--contents needs a question") }
    }

    func run() throws {
        let questions = try stride(from: 0, to: words.count, by: 2).map { try TranslateQuestion(words[$0], words[$0 + 1]) }
        let table = try TranslateSource(source, own: own, pause: pause)
        var report = TranslateReport(table)
        report.answers = questions.map { TranslateAnswer($0, table.snapshot) }
        if check {
            report.findings = try failing(source) {
                try machine ? TranslateSource.machineCheck(table.snapshot) : table.snapshot.check()
            }
        }
        if let compare {
            report.difference = TableDifference(table.snapshot, try TranslateSource(compare, own: own, pause: pause).snapshot)
        }
        if let contents { report.contents = (contents, try TranslateContents.write(report.answers, table, to: contents)) }
        if let svg { try OutputFile.write(ContiguityPicture(table.snapshot.map, title: table.title).svg, to: svg) }
        if json {
            printLine(report.json)
        } else {
            for line in report.lines(asked: !questions.isEmpty, summary: questions.isEmpty || check) { printLine(line) }
        }
        if report.isBad { throw Failure.silent(1) }
    }
}
