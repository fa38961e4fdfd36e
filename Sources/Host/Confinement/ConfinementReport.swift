// What is in force, in a line.

import LinuxSystem

/// What became of a plan.
public struct ConfinementReport: Sendable, CustomStringConvertible {
    /// A part of a plan that the line speaks of.
    enum Part: String {
        case network = "a network of its own"
        case capabilities = "giving up capabilities"
        case files = "Landlock"
        case calls = "seccomp"
    }
    private let plan: ConfinementPlan
    /// What could not be had, and why.
    public private(set) var missing: [String] = []
    private var failed: Set<Part> = []

    /// Who it is, as others see it.
    var user: UInt32

    init(_ plan: ConfinementPlan) {
        self.plan = plan
        user = Isolation.user
    }

    mutating func attempt(_ part: Part, _ body: () throws(Errno) -> Void) {
        do throws(Errno) { try body() } catch {
            if failed.insert(part).inserted { lacks(part.rawValue, error) }
        }
    }

    mutating func attempt(_ what: String, _ body: () throws(Errno) -> Void) {
        do throws(Errno) { try body() } catch { lacks(what, error) }
    }

    mutating func lacks(_ what: String, _ reason: Errno) { missing.append("\(what) (\(reason))") }

    /// `confined: user 1879051234, capabilities none, 108 system calls, no files, no network`, and what is missing.
    public var description: String {
        var parts = ["user \(user)", "capabilities \(Privileges.summary)"]
        if !failed.contains(.calls) { parts.append("\(plan.calls.count) system calls") }
        if let files = plan.files, !failed.contains(.files) {
            parts.append(files.isEmpty ? "no files" : "files only below \(files.map(\.path).joined(separator: ", "))")
        }
        if plan.role.needsNoNetwork, !failed.contains(.network) { parts.append("no network") }
        return "confined: " + parts.joined(separator: ", ")
            + (missing.isEmpty ? "" : "; NOT in force: " + missing.joined(separator: ", "))
    }
}
