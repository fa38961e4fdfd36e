// The pages that questions found, as a file: page i of a question stands i times 4096 bytes behind the question's first
// one, whether the pages between are there or not. What is not there is a hole of zeros, and counted.

import CommandSupport
import FrameMaps

/// Where a question's pages are in the file.
struct ContentsPlace {
    let kind: TranslateQuestion.Kind
    /// The first page asked for, how many there were, and how many of them are zeros because there is no such page.
    let first: UInt64
    let count: UInt64
    let missing: UInt64
    /// Of the first page.
    let offset: UInt64

    /// In words.
    var words: String {
        let number = kind == .pfn ? Pfn(rawValue: first).description : Mfn(rawValue: first).description
        let pages = "\(count) page\(count == 1 ? "" : "s") from \(number) on at offset 0x\(String(offset, radix: 16))"
        return missing == 0 ? pages : "\(pages), \(missing) of them not there and zeros"
    }
}

enum TranslateContents {
    /// Writes the file at `path`, question after question; where each is.
    static func write(
        _ answers: [TranslateAnswer], _ source: TranslateSource, to path: String
    ) throws(Failure) -> [ContentsPlace] {
        let file = try OutputFile(path)
        var places: [ContentsPlace] = []
        var offset: UInt64 = 0
        for answer in answers {
            var missing: UInt64 = 0
            for run in answer.runs {
                if run.pfn != nil && run.frame != nil {
                    try append(run, of: answer, source, to: file)
                } else {
                    try file.skip(run.count << frameShift)
                    missing += run.count
                }
            }
            let question = answer.question
            places.append(
                ContentsPlace(
                    kind: question.kind, first: question.first, count: question.count, missing: missing, offset: offset))
            offset += question.count << frameShift
        }
        return places
    }

    private static func append(
        _ run: TranslateAnswer.Run, of answer: TranslateAnswer, _ source: TranslateSource, to file: OutputFile
    ) throws(Failure) {
        for step in 0..<run.count {
            let (pfn, frame) = (run.pfn.map { $0 + step }, run.frame.map { $0 + step })
            let page = try failing(source.name) { try source.contents(pfn, frame, asked: answer.question.kind) }
            guard let page else {
                throw Failure("\(source.name): page \(pfn.map { Pfn(rawValue: $0).description } ?? "?") cannot be read")
            }
            try file.append(page)
        }
    }
}
