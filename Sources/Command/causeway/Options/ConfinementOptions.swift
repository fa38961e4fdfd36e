// What a process gives up at its start, for the roles that have peers.

import ArgumentParser
import CommandSupport
import Confinement
import LinuxSystem

/// `--no-confinement`, and for those that start frontends the users that these become.
struct ConfinementOptions: ParsableArguments {
    @Flag(help: "Gives up nothing: whoever takes over this process has all that its user has. For debuggers.")
    var noConfinement = false

    /// Puts a role's plan in force; what this system lacks is said at once. To be called before there are other
    /// threads.
    /// - Parameters:
    ///   - users: the users of whom this process becomes one; nil: it stays who it is.
    ///   - files: those that it may reach all the same.
    /// - Returns: what is in force, to be said once the process is of use; nil: there is no more to say.
    func confine(
        _ role: ConfinedRole, as users: UserRange? = nil, adding files: [FileRule] = []
    ) throws(Failure) -> String? {
        if noConfinement {
            complain("\(role.rawValue): \(Self.warning)")
            return nil
        }
        let report: ConfinementReport
        var plan = ConfinementPlan(role, user: users?.user(of: ChildProcess.own))
        plan.files?.append(contentsOf: files)
        do throws(ConfinementError) { report = try plan.apply() } catch {
            throw .silent(1)
        }
        let line = "\(role.rawValue): \(report)"
        if report.missing.isEmpty { return line }
        complain(line)
        return nil
    }

    /// What is said where it is off.
    static let warning = "NOT CONFINED (--no-confinement): whoever takes this process over has all that its user has"

    /// The same, for a process that is started with it.
    var arguments: [String] { noConfinement ? ["--no-confinement"] : [] }
}

/// The users that frontends become, where root starts them.
struct UserOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The users that domains' processes become, where root starts them: one for each process, by its number.",
            valueName: "first-last"))
    var users: String?

    func validate() throws {
        if let users, UserRange(users) == nil { throw ValidationError("--users: \(users): not FIRST-LAST, of users but root") }
    }

    /// The range that was given.
    var range: UserRange? { users.flatMap { UserRange($0) } }
}
