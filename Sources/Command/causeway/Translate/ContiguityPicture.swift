// A picture of how a domain's memory lies on the bus: its pfns line by line, each cell coloured by the length of the
// runs that it is part of.

import FrameMapReaders
import FrameMaps

/// An SVG drawing.
struct ContiguityPicture {
    private let map: FrameMap
    private let title: String
    private let pagesPerCell: UInt64

    private static let columns: UInt64 = 128
    private static let mostRows: UInt64 = 128
    private static let cell: UInt64 = 7
    private static let left: UInt64 = 90
    private static let top: UInt64 = 70

    /// Runs of fewer pages than the number, one colour; the last one has no bound. Light is scattered, dark contiguous.
    private static let classes: [(below: UInt64, colour: String, words: String)] = [
        (2, "#fde725", "1"), (8, "#a0da39", "2 to 7"), (64, "#4ac16d", "8 to 63"), (512, "#1fa187", "64 to 511"),
        (4096, "#277f8e", "512 to 4095"), (.max, "#365c8d", "4096 and more"),
    ]
    private static let foreign = "#d62728"
    private static let identity = "#7f7f7f"
    private static let hole = "#ffffff"

    init(_ map: FrameMap, title: String) {
        self.map = map
        self.title = title
        var pages: UInt64 = 1
        while map.pfnLimit > pages * Self.columns * Self.mostRows { pages *= 2 }
        pagesPerCell = pages
    }

    /// What most of a cell's pages are: a class's number, or one of the last three.
    private enum Kind: Int { case scattered = 0, foreign = 6, identity = 7, hole = 8 }

    /// The colour of each cell.
    private func cells() -> [String] {
        let count = Int((map.pfnLimit + pagesPerCell - 1) / pagesPerCell)
        // Pages of each kind in the cell under way; runs come in order.
        var colours = [String](repeating: Self.hole, count: count)
        var tally = [UInt64](repeating: 0, count: 8)
        var current = 0
        func finish() {
            let pages = tally.reduce(0, +)
            if let best = tally.indices.max(by: { tally[$0] < tally[$1] }), pages > 0 {
                colours[current] = best == 6 ? Self.foreign : best == 7 ? Self.identity : Self.classes[best].colour
            }
            tally = [UInt64](repeating: 0, count: 8)
        }
        forEachRun(of: map) { run in
            let kind: Int
            switch run.kind {
            case .foreign: kind = Kind.foreign.rawValue
            case .identity: kind = Kind.identity.rawValue
            case .local: kind = Self.classes.firstIndex { run.pages < $0.below } ?? 5
            }
            var pfn = run.pfn
            while pfn < run.pfn + run.pages {
                let place = Int(pfn / pagesPerCell)
                if place != current {
                    finish()
                    current = place
                }
                let end = min(run.pfn + run.pages, (UInt64(place) + 1) * pagesPerCell)
                tally[kind] += end - pfn
                pfn = end
            }
        }
        if count > 0 { finish() }
        return colours
    }

    /// The drawing.
    var svg: String {
        let colours = cells()
        let rows = max(1, (UInt64(colours.count) + Self.columns - 1) / Self.columns)
        let width = Self.left + Self.columns * Self.cell + 20
        let bottom = Self.top + rows * Self.cell
        let height = bottom + 60
        var out = """
            <svg xmlns="http://www.w3.org/2000/svg" width="\(width)" height="\(height)" viewBox="0 0 \(width) \(height)" \
            font-family="sans-serif" font-size="12">
            <rect width="100%" height="100%" fill="#ffffff"/>
            <text x="\(Self.left)" y="24" font-size="15">\(escaped(title))</text>
            <text x="\(Self.left)" y="44" fill="#555555">\(pagesPerCell) page\(pagesPerCell == 1 ? "" : "s") a cell, \
            \(Self.columns * pagesPerCell) a line; colour: pages in a row that are contiguous on the bus</text>

            """
        // The grid's paper, so that holes are seen as holes.
        out +=
            "<rect x=\"\(Self.left)\" y=\"\(Self.top)\" width=\"\(Self.columns * Self.cell)\" height=\"\(rows * Self.cell)\" fill=\"#eeeeee\"/>\n"
        for row in 0..<rows {
            let y = Self.top + row * Self.cell
            if row % 8 == 0 {
                let pfn = Pfn(rawValue: row * Self.columns * pagesPerCell)
                out += "<text x=\"\(Self.left - 6)\" y=\"\(y + Self.cell)\" text-anchor=\"end\" font-size=\"10\">\(pfn)</text>\n"
            }
            var column = row * Self.columns
            let end = min(column + Self.columns, UInt64(colours.count))
            // Cells of one colour side by side are one rectangle.
            while column < end {
                let colour = colours[Int(column)]
                var next = column + 1
                while next < end, colours[Int(next)] == colour { next += 1 }
                let x = Self.left + column % Self.columns * Self.cell
                out +=
                    "<rect x=\"\(x)\" y=\"\(y)\" width=\"\((next - column) * Self.cell)\" height=\"\(Self.cell)\" fill=\"\(colour)\"/>\n"
                column = next
            }
        }
        var x = Self.left
        for (colour, words) in Self.classes.map({ ($0.colour, $0.words) }) + [
            (Self.foreign, "foreign"), (Self.identity, "identity"), (Self.hole, "no frame"),
        ] {
            out +=
                "<rect x=\"\(x)\" y=\"\(bottom + 20)\" width=\"12\" height=\"12\" fill=\"\(colour)\" stroke=\"#999999\" stroke-width=\"0.5\"/>\n"
            out += "<text x=\"\(x + 16)\" y=\"\(bottom + 30)\">\(words)</text>\n"
            x += 34 + UInt64(words.count) * 7
        }
        return out + "</svg>\n"
    }

    private func escaped(_ text: String) -> String {
        // XML has no control characters, not even escaped ones.
        let text = String(
            String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 0x20 || $0.value & ~1 == 0xFFFE ? " " : $0 }))
        return text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;").replacing(
            "\"", with: "&quot;")
    }
}
