// causeway translate on made dumps.

import DumpWriter
import Foundation
import Testing

extension EndToEnd {
    @Suite("translate") struct TranslateCommand {
        private let scratch: Scratch
        init() throws { scratch = try Scratch() }

        private func write(_ writer: DumpWriter, _ name: String = "guest.core") throws -> String {
            try write(writer.write().bytes, name)
        }
        private func write(_ bytes: [UInt8], _ name: String) throws -> String {
            let path = "\(scratch.path)/\(name)"
            try Foundation.Data(bytes).write(to: URL(fileURLWithPath: path))
            return path
        }
        private func translate(_ words: String...) throws -> Outcome {
            try RunningProcess.run([Tools.causeway, "translate"] + words, in: scratch)
        }
        /// 1000 pages: pfns 16 to 515 lie at frames 5000 on, pfns 600 to 1099 at 9000 on, every second pair changed
        /// places.
        private var paravirtual: DumpWriter {
            var entries: [(pfn: UInt64, frame: UInt64)?] = []
            for number in 0..<500 as Range<UInt64> { entries.append((16 + number, 5000 + number)) }
            for number in 0..<500 as Range<UInt64> {
                let place = number % 4 < 2 ? number : number ^ 1
                entries.append((600 + number, 9000 + place))
            }
            return DumpWriter(.paravirtual, entries + [nil, nil])
        }

        @Test("a summary, the check, and answers to questions")
        func words() throws {
            let path = try write(paravirtual)
            let summary = try translate(path, "--check")
            #expect(summary.status == 0 && summary.errors.isEmpty, "\(summary)")
            for line in [
                "\(path): dump of a paravirtual domain, 1 processor, Xen 4.17.4-pre", "table       1000 of 1002 entries in use",
                "pages       1000 (3.9 MiB), p0x10 to p0x44b, 84 without a frame in 1 gap", "frames      m0x1388 to m0x251b",
                "contiguity  376 runs, 2.7 pages each; the longest 500 pages (2.0 MiB) from p0x10 on; 0 aligned pieces of 2 MiB",
                "check       good: each frame comes back to its pfn, none is there twice, none out of range",
            ] { #expect(summary.output.contains(line + "\n"), "\(line)\nin\n\(summary.output)") }
            let answers = try translate(path, "pfn", "0x20", "pfn", "510-518", "mfn", "9000+5", "mfn", "0x1388", "mfn", "7")
            #expect(answers.status == 0)
            #expect(
                answers.output == """
                    p0x20 is m0x1398
                    p0x1fe is m0x1576 for 6 pages
                    p0x204 for 3 pages: no frame
                    m0x2328 is p0x258 for 2 pages
                    m0x232a is p0x25b
                    m0x232b is p0x25a
                    m0x232c is p0x25c
                    m0x1388 is p0x10
                    m0x7: not the domain's

                    """, "\(answers.output)")
        }

        @Test("pages found by machine frame are the pages found by pfn")
        func contents() throws {
            let writer = paravirtual
            let path = try write(writer)
            #expect(try translate(path, "pfn", "600-603", "pfn", "16", "--contents", "\(scratch.path)/a").status == 0)
            #expect(
                try translate(path, "mfn", "9000+2", "mfn", "9003", "mfn", "9002", "mfn", "5000", "--contents", "\(scratch.path)/b")
                    .status == 0)
            let expected = Foundation.Data([500, 501, 502, 503, 0].flatMap(writer.contents))
            #expect(FileManager.default.contents(atPath: "\(scratch.path)/a") == expected)
            #expect(FileManager.default.contents(atPath: "\(scratch.path)/b") == expected)
        }

        /// Page i of a question is i × 4096 bytes from its first, whatever holes lie between; what is where is said.
        @Test("offsets in the file follow the numbers, over holes too")
        func contentsOverHoles() throws {
            let writer = paravirtual
            let path = try write(writer), file = "\(scratch.path)/a"
            let outcome = try translate(
                path, "pfn", "510-518", "pfn", "700", "pfn", "2000+3", "mfn", "9500-9501", "--contents", file)
            #expect(outcome.status == 0, "\(outcome)")
            let zeros = [UInt8](repeating: 0, count: 4096)
            // pfns 516 to 518 are in a hole, 2000 and the frames 9500 on nowhere.
            var expected = (494..<500).flatMap(writer.contents) + zeros + zeros + zeros
            expected += writer.contents(600) + zeros + zeros + zeros + zeros + zeros
            let bytes = [UInt8](try #require(FileManager.default.contents(atPath: file)))
            #expect(bytes.count == 15 * 4096 && bytes == expected)
            for line in [
                "contents    \(file)", "  9 pages from p0x1fe on at offset 0x0, 3 of them not there and zeros",
                "  1 page from p0x2bc on at offset 0x9000",
                "  3 pages from p0x7d0 on at offset 0xa000, 3 of them not there and zeros",
                "  2 pages from m0x251c on at offset 0xd000, 2 of them not there and zeros",
            ] { #expect(outcome.output.contains(line + "\n"), "\(line) in \(outcome.output)") }
            let json = try translate(path, "pfn", "510-518", "pfn", "16", "--contents", file, "--json")
            #expect(json.output.contains("\"offset\" : 36864") && json.output.contains("\"missing\" : 3"), "\(json.output)")
            // Where there can be no holes there are zeros.
            let pipe = try RunningProcess.run(
                [
                    "sh", "-c", "\"$0\" translate \"$1\" pfn 515-517 --contents /dev/fd/3 3>&1 >/dev/null | wc -c", Tools.causeway,
                    path,
                ], in: scratch)
            #expect(pipe.status == 0 && pipe.output == "12288\n", "\(pipe)")
        }

        /// What the dump's writer put into its text stays text: on the terminal, in the picture, in JSON.
        @Test("escape sequences of a dump are shown, not obeyed")
        func hostileText() throws {
            var (bytes, layout) = paravirtual.write()
            let nasty: [UInt8] = [0x1B, 0x5D, 0x30, 0x3B, 0x78, 0x07, 0x9B, 0x31, 0x6D, 0x3C, 0x2F, 0x26, 0]
            for (index, byte) in nasty.enumerated() { bytes[layout.notes[2] + 32 + index] = byte }
            let path = try write(bytes, "a\u{1B}[2J\u{202E}b.core")
            let svg = "\(scratch.path)/picture.svg"
            let words = try translate(path, "--check", "--svg", svg)
            let json = try translate(path, "--json")
            #expect(words.status == 0 && json.status == 0)
            #expect(words.output.contains(#"Xen 4.17\x1b]0;x\x07\x9b1m</&"#), "\(words.output)")
            #expect(words.output.contains(#"a\u{1b}[2J\u{202e}b.core"#))
            for text in [words.output, json.output, scratch.read("picture.svg")] {
                let isPlain = text.unicodeScalars.allSatisfy { $0 == "\n" || $0.value >= 0x20 && !(0x7F..<0xA0 ~= $0.value) }
                #expect(isPlain, "\(text.prefix(400))")
            }
            let parsed = try RunningProcess.run(
                ["python3", "-c", "import sys, xml.dom.minidom as m; m.parse(sys.argv[1])", svg], in: scratch)
            #expect(parsed.status == 0, "\(parsed)")
        }

        @Test("an auto-translated domain: its own numbers, and machine frames are nobody's to know")
        func autoTranslated() throws {
            let path = try write(DumpWriter(.autoTranslated, (0..<64).map { (pfn: UInt64($0 < 32 ? $0 : $0 + 100), frame: 0) }))
            let outcome = try translate(path, "pfn", "30-33", "mfn", "3", "--check")
            #expect(outcome.status == 0)
            for line in [
                "p0x1e is g0x1e for 2 pages", "p0x20 for 2 pages: no frame", "m0x3: not known of an auto-translated domain",
                "frames      g0x0 to g0xa3", "check       good: no pfn is there twice, none out of range",
            ] { #expect(outcome.output.contains(line + "\n"), "\(outcome.output)") }
        }

        private struct Document: Decodable {
            struct Run: Decodable, Equatable { var pfn, frame: UInt64?; var pages: UInt64; var kind: String }
            struct Answer: Decodable { var question: String; var first, count: UInt64; var runs: [Run] }
            struct Check: Decodable { var findings: UInt64; var first: [String] }
            struct Difference: Decodable { var same, different: UInt64 }
            var kind, model: String
            var entries, used, local, runs, holes: UInt64
            var answers: [Answer]
            var check: Check?
            var difference: Difference?
        }

        @Test("JSON has everything")
        func json() throws {
            let path = try write(paravirtual)
            var other = paravirtual
            other.entries[3] = (19, 20000)
            other.entries.removeLast(3)
            let second = try write(other, "other.core")
            let outcome = try translate(path, "pfn", "514-517", "mfn", "0x1388", "--json", "--check", "--compare", second)
            #expect(outcome.status == 1 && outcome.errors.isEmpty, "\(outcome)")
            let document = try JSONDecoder().decode(Document.self, from: Foundation.Data(outcome.output.utf8))
            #expect(document.kind == "dump" && document.model == "p2m" && document.entries == 1002 && document.used == 1000)
            #expect(document.local == 1000 && document.runs == 376 && document.holes == 84)
            #expect(
                document.answers.map(\.question) == ["pfn", "mfn"] && document.answers[0].first == 514
                    && document.answers[0].count == 4)
            #expect(
                document.answers[0].runs == [
                    .init(pfn: 514, frame: 5498, pages: 2, kind: "local"), .init(pfn: 516, frame: nil, pages: 2, kind: "none"),
                ])
            #expect(document.answers[1].runs == [.init(pfn: 16, frame: 5000, pages: 1, kind: "local")])
            #expect(document.check?.findings == 0 && document.difference?.different == 2 && document.difference?.same == 998)
        }

        @Test("a table with mistakes: each is named, and the status is 1")
        func findings() throws {
            let path = try write(DumpWriter(.paravirtual, [(1, 10), (2, 11), (3, 10), (2, 12)]))
            let outcome = try translate(path, "--check")
            #expect(outcome.status == 1 && outcome.errors.isEmpty)
            for line in [
                "check       3 findings", "  p0x3: m0xa is at p0x1 already", "  p0x2: a second entry, m0xc after m0xb",
                "  entry 3: a smaller pfn than the entry before",
            ] { #expect(outcome.output.contains(line + "\n"), "\(outcome.output)") }
            let asked = try translate(path, "pfn", "3")
            #expect(asked.status == 0 && asked.output.hasPrefix("p0x3 is m0xa, alias\nwarning"), "\(asked.output)")
            let difference = try translate(path, "--compare", try write(DumpWriter(.paravirtual, [(1, 10)]), "b.core"))
            #expect(difference.status == 1 && difference.output.contains("  p0x2: m0xb, then nothing\n"), "\(difference.output)")
        }

        @Test("the domain's own table within a dump, with its marks")
        func ownTable() throws {
            var list: [UInt64] = (0..<600).map { 7000 + $0 }
            list[3] = 1 << 63 | 50
            var guest = GuestWriter(list, width: 8, form: .linear, unused: Array(list.suffix(20)))
            let shared = guest.write()
            let frames = guest.frames
            let entries = list.enumerated().filter { $1 < 1 << 62 }.map { (pfn: UInt64($0), frame: $1) }
            var writer = DumpWriter(.paravirtual, entries) { frames[entries[$0].frame] ?? DumpWriter.page(filled: UInt64($0)) }
            writer.sharedInfo = shared
            let path = try write(writer)
            let outcome = try translate(path, "--own", "pfn", "2-4", "--check", "--compare", path)
            #expect(outcome.status == 0 && outcome.output.contains("p0x3 is m0x32, foreign\n"), "\(outcome)")
            #expect(outcome.output.contains("600 (2.3 MiB), 1 foreign, "), "\(outcome.output)")
            #expect(outcome.output.contains("compared    the same in all 599 pages"))
            let none = try translate(try write(DumpWriter(.autoTranslated, [(1, 1)]), "hvm.core"), "--own")
            #expect(none.status == 1 && none.errors.contains("no table of the domain's own"), "\(none)")
        }

        @Test("a picture that is well-formed and shows what there is")
        func picture() throws {
            let path = try write(paravirtual, "a&b.core")
            let svg = "\(scratch.path)/picture.svg"
            #expect(try translate(path, "--svg", svg).status == 0)
            let text = scratch.read("picture.svg")
            let parsed = try RunningProcess.run(
                [
                    "python3", "-c",
                    "import sys, xml.dom.minidom as m; d = m.parse(sys.argv[1]); print(len(d.getElementsByTagName('rect')))", svg,
                ], in: scratch)
            #expect(parsed.status == 0, "\(parsed)")
            #expect(text.contains("1 page a cell") && text.contains("a&amp;b.core"))
            // Scattered pairs, the long run, holes.
            for colour in ["#fde725", "#a0da39", "#1fa187", "#ffffff"] { #expect(text.contains("fill=\"\(colour)\""), "\(colour)") }
            // Lines of 128 cells: pfns 16 to 127 are one colour.
            #expect(text.contains("<rect x=\"202\" y=\"70\" width=\"784\" height=\"7\" fill=\"#1fa187\"/>"), "\(text.prefix(1500))")
        }

        @Test("what cannot be: one message, status 1 or 2")
        func errors() throws {
            let good = try write(paravirtual)
            let broken = try write(Array(paravirtual.write().bytes.prefix(2000)), "short.core")
            for (words, status, says) in [
                ([broken], 1, "short.core: section names, offset 0x"),
                (["/nowhere/x.core"], 1, "causeway: /nowhere/x.core: file, offset 0x0: cannot be opened: No such file"),
                (["nosuch"], 1, "causeway: nosuch: no such file, and no domain either: "), (["77"], 1, "no domain either"),
                ([scratch.path + "/"], 1, "directory"), ([good, "pfn"], 2, "has no second half"),
                ([good, "gfn", "1"], 2, "begins with pfn or mfn"),
                ([good, "pfn", "0x"], 2, "is no number"), ([good, "pfn", "12z"], 2, "`12z` is no number"),
                ([good, "pfn", "9-3"], 2, "below the first"),
                ([good, "pfn", "5+0"], 2, "no frames"), ([good, "pfn", "0+99999999999"], 2, "at most 16777216"),
                ([good, "pfn", "0xfffffffffffffff0+32"], 2, "beyond the last frame"),
                ([good, "mfn", "99999999999999999999"], 2, "is no number"),
                ([good, "--machine"], 2, "--machine goes with --check"),
                ([good, "--check", "--machine"], 1, "no Xen on this host"),
                ([good, "--contents", "/tmp/x"], 2, "--contents needs a question"),
                ([good, "--svg", "/nowhere/x.svg"], 1, "/nowhere/x.svg: cannot be written"),
                ([good, "--compare", "nosuch"], 1, "nosuch: no such file"),
            ] as [([String], Int32, String)] {
                let outcome = try RunningProcess.run([Tools.causeway, "translate"] + words, in: scratch)
                #expect(
                    outcome.status == status && outcome.errors.contains(says) && outcome.errors.hasPrefix("causeway: "),
                    "\(words): \(outcome)")
            }
        }

        @Test("a dump cut in the middle of its pages still translates, and says what is missing")
        func cutShort() throws {
            var writer = DumpWriter(.paravirtual, (0..<8).map { (pfn: UInt64($0), frame: UInt64($0 + 100)) })
            writer.fileOrder = [".shstrtab", ".note.Xen", ".xen_prstatus", ".xen_shared_info", ".xen_p2m", ".xen_pages"]
            let (bytes, layout) = writer.write()
            let path = try write(Array(bytes.prefix((layout.offsets[".xen_pages"] ?? 0) + 3 * 4096)), "cut.core")
            #expect(try translate(path, "pfn", "7").output.hasPrefix("p0x7 is m0x6b\n"))
            let check = try translate(path, "--check")
            #expect(
                check.status == 1 && check.output.contains("  pages 3 to 7 lie beyond the file's end, from offset 0x"),
                "\(check.output)")
            let contents = try translate(path, "pfn", "2-3", "--contents", "\(scratch.path)/x")
            #expect(contents.status == 1 && contents.errors.contains("section .xen_pages, offset 0x"), "\(contents)")
        }
    }
}
