// causeway bench: ours beside the reference, in turn, in one run.

import ArgumentParser

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measures ours beside the reference and prints the ratio.",
        subcommands: [BenchBlock.self, BenchNetwork.self, BenchGrant.self, BenchFrames.self, BenchForward.self])
}
