// Which options there are, from the help texts: the parser looks at what is missing before it looks at what nobody
// knows, and then a misspelt `--disc` is answered with "give a disk".

import ArgumentParser

/// The options of one subcommand.
struct OptionNames {
    private var takesValue: [String: Bool] = [:]

    /// Those of `command`, the hidden ones among them.
    init(of command: any ParsableCommand.Type) {
        let help = Causeway.helpMessage(for: command, includeHidden: true, columns: 200)
        guard let options = help.firstRange(of: "OPTIONS:\n") else { return }
        for line in help[options.upperBound...].split(separator: "\n", omittingEmptySubsequences: false) {
            // Headings are not indented; what explains an option is, by more.
            if !line.isEmpty, !line.hasPrefix("  ") { break }
            guard line.hasPrefix("  -") else { continue }
            let words = line.split(separator: " ")
            let names = words.prefix { $0.hasPrefix("-") }
            let hasValue = words.count > names.count && words[names.count].hasPrefix("<")
            for name in names { takesValue[String(name.filter { $0 != "," })] = hasValue }
        }
        // The parser's own.
        for name in ["--help-hidden", "--experimental-dump-help"] { takesValue[name] = false }
        takesValue["--generate-completion-script"] = true
    }

    /// The first word of a command line that looks like an option and is none of its subcommand's.
    static func firstUnknown(in arguments: [String]) -> String? {
        var command: any ParsableCommand.Type = Causeway.self
        var words = arguments[...]
        while let name = words.first, let next = command.configuration.subcommands.first(where: { $0._commandName == name }) {
            command = next
            words = words.dropFirst()
        }
        return OptionNames(of: command).firstUnknown(in: words)
    }

    private func firstUnknown(in words: ArraySlice<String>) -> String? {
        var isAfterOption = false
        for word in words {
            if word == "--" { return nil }
            let mayBeNegative = isAfterOption
            isAfterOption = false
            // A value may be `-`, and a negative number; other words with a dash never are.
            guard word.hasPrefix("-"), word != "-", !(mayBeNegative && Double(word) != nil) else { continue }
            let name = String(word.prefix { $0 != "=" })
            if let hasValue = takesValue[name] {
                isAfterOption = hasValue && name == word
            } else if word.hasPrefix("--") || word.dropFirst().contains(where: { takesValue["-\($0)"] == nil }) {
                return name
            }
        }
        return nil
    }
}
