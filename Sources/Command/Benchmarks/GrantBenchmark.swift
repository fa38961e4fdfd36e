// What a grant and a doorbell cost on the loopback hypervisor, beside what the kernel itself takes for the like.

import CommandSupport

/// What `bench grant` is asked for.
package struct GrantBenchmark {
    private let seconds: Double
    private let runs: Int

    /// - Parameters:
    ///   - seconds: of one run.
    ///   - runs: of each job.
    package init(seconds: Double, runs: Int) {
        self.seconds = seconds
        self.runs = runs
    }

    /// Runs every job; ours and the reference take turns.
    package func run() throws -> BenchReport {
        let directory = try EarlyEnd.makeDirectory()
        defer { EarlyEnd.remove(directory) }
        let rig = try GrantRig(in: directory)
        defer { rig.end() }
        var report = BenchReport()
        for job in try rig.jobs() {
            var result = BenchResult(name: job.name, unit: job.unit, ours: [], reference: [], moreIsBetter: false)
            for _ in 0..<runs {
                result.ours.append(try time(job.ours, job.share))
                result.reference.append(try time(job.reference, job.share))
            }
            report.results.append(result)
        }
        return report
    }

    /// Nanoseconds of one turn of `body`, divided by `share`.
    private func time(_ body: () throws -> Void, _ share: Double) throws -> Double {
        let clock = ContinuousClock()
        let start = clock.now
        var turns = 0.0
        // The clock is read in every 16th turn.
        while clock.now - start < .seconds(seconds) {
            for _ in 0..<16 { try body() }
            turns += 16
        }
        return (clock.now - start) / .nanoseconds(1) / turns / share
    }
}
