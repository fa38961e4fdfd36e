// causeway bench grant: what a grant and a doorbell cost on the loopback hypervisor, beside what the kernel itself
// takes for the like.

import ArgumentParser
import Benchmarks

struct BenchGrant: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "grant",
        abstract: "Grants mapped and copied, pages offered, a doorbell there and back.",
        discussion: """
            A host process, and two domains in this one. Each figure is the median of its runs; ours and the reference take turns. The loopback
            hypervisor is a process, so its calls are compared with as many packets there and back over a Unix socket to a thread (map and unmap:
            two; copy: two, and memcpy; offer and withdraw: two, and mmap and munmap), a doorbell with one eventfd each way.
            """)

    @Option(help: "Seconds of one run.") var seconds = 0.2
    @Option(help: "Runs of each job.") var runs = 5
    @Flag(help: "One JSON object instead of a table.") var json = false

    func validate() throws {
        guard seconds > 0, seconds <= 60, (1...1000).contains(runs) else {
            throw ValidationError("--seconds: up to 60, --runs: 1 to 1000")
        }
    }

    func run() throws {
        try EarlyEnd.covering { try GrantBenchmark(seconds: seconds, runs: runs).run().print(json: json) }
    }
}
