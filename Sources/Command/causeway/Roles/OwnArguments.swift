// This process's own arguments, for a program that takes its place or that it starts to do its work.

/// The arguments of a subcommand that serves.
struct OwnArguments {
    /// The program, its options, and what is behind `--`.
    private(set) var words: [String]
    private let subcommand: String

    /// This process's, without what a predecessor has added.
    init(of subcommand: String) {
        self.subcommand = subcommand
        words = CommandLine.arguments
        remove(Export.resumeOption, values: 1)
    }

    /// COMMAND's own options are no business of ours.
    private var end: Int { words.firstIndex(of: "--") ?? words.count }

    /// Without an option and what is behind it.
    mutating func remove(_ option: String, values: Int) {
        guard let place = words[..<end].firstIndex(of: option), place + values < end else { return }
        words.removeSubrange(place...place + values)
    }

    /// With an option, the first of all.
    func adding(_ option: String, _ value: String) -> [String] {
        var words = words
        let place = words.firstIndex(of: subcommand).map { $0 + 1 } ?? 1
        words.insert(contentsOf: [option, value], at: place)
        return words
    }

    /// For the process that serves while this one keeps: without COMMAND.
    func ofWorker(in directory: String) -> [String] {
        var worker = self
        worker.words.removeSubrange(end...)
        worker.remove("--keep", values: 0)
        return worker.adding(Export.keptOption, directory)
    }
}
