// A process that is confined as a role's is, or not at all, and then tries what it is told: one line for each, its name
// and 0 or errno.

import CAttempts
import Confinement

@main
enum Probe {
    /// ROLE|none USER|own PROCESS ATTEMPT…
    static func main() {
        let words = CommandLine.arguments.dropFirst()
        guard words.count > 3, let process = Int32(words[words.startIndex + 2]) else { return print("no sense") }
        attempts_prepare()
        if let role = ConfinedRole(rawValue: words[words.startIndex]) {
            let report = try? ConfinementPlan(role, user: UInt32(words[words.startIndex + 1])).apply()
            print(report.map { "\($0)" } ?? "refused")
        }
        for name in words.dropFirst(3) {
            // SAFETY: the name is lent for the call.
            print(name, unsafe attempts_try(name, process))
        }
    }
}
