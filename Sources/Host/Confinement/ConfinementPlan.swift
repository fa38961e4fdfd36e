// What is to be in force for one process, and how it is put in force: once, for good, before anything of a peer's is
// looked at and before there are other threads.

import LinuxSystem

/// Why a process must not go on.
public enum ConfinementError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Whoever started it ended meanwhile, and wanted it to end, too.
    case parentEnded

    /// One clause.
    public var description: String { "the process that started this one has ended" }
}

/// What one process is to be without.
public struct ConfinementPlan: Sendable {
    /// What it is for.
    public let role: ConfinedRole
    /// Who it becomes; nil: it stays who it is.
    public var user: UInt32?
    /// The files that it may reach; nil: any. Where the role needs none there may still be some to remove at the end.
    public var files: [FileRule]?

    /// The system calls that it makes.
    var calls: CallGroups { files?.isEmpty == false ? role.calls.union(.files) : role.calls }

    /// A role's own plan.
    /// - Parameter user: who it becomes, for root.
    public init(_ role: ConfinedRole, user: UInt32? = nil) {
        self.role = role
        self.user = user
        files = role.needsNoFiles ? [] : nil
    }

    /// Puts it in force. What this system does not have is left out and said.
    public func apply() throws(ConfinementError) -> ConfinementReport {
        var report = ConfinementReport(self)
        report.attempt("core dumps") { () throws(Errno) in try Isolation.leaveNoCores() }
        if role.needsNoNetwork {
            report.attempt(.network) { () throws(Errno) in try Isolation.leaveNetwork(leavingUsers: true) }
        }
        report.attempt("no_new_privs") { () throws(Errno) in try Isolation.gainNothing() }
        report.attempt(.capabilities) { () throws(Errno) in
            // The bounding set is cut while that is allowed.
            try Privileges.keepOnly(role.capabilities + [.changeUser, .changeGroup, .boundCapabilities])
        }
        try becomeUser(&report)
        report.attempt(.capabilities) { () throws(Errno) in try Privileges.keepOnly(role.capabilities) }
        // After the change of user, which resets it.
        report.attempt("hiding from ptrace") { () throws(Errno) in try Isolation.hide() }
        if let files { report.attempt(.files) { () throws(Errno) in try FileRules.restrict(to: files) } }
        report.attempt(.calls) { () throws(Errno) in try SystemCallFilter.allow(calls, for: role.rawValue) }
        return report
    }

    private func becomeUser(_ report: inout ConfinementReport) throws(ConfinementError) {
        guard let user else { return }
        do throws(Errno) {
            try Isolation.become(user)
            report.user = user
        } catch {
            if error == .noSuchProcess { throw .parentEnded }
            report.lacks("a user of its own", error)
        }
    }
}
