// Domains on one host are kept apart by the kernel's rules for processes. Two processes of one user are not kept apart
// at all: either reads the other's memory through /proc. A domain's process that is to be isolated runs under a user of
// its own, or at the least is undumpable and cannot make the calls that reach into others.

import CLinux
import Glibc
import Hypervisor
import LinuxSystem

/// What a domain's process gives up.
public struct DomainHardening: Sendable {
    /// Becomes this user and group; nil stays who it is. Two domains under one user, and every domain under root, are
    /// isolated only as far as each is undumpable: for tests.
    public var user: (user: UInt32, group: UInt32)?
    /// Gives up all capabilities.
    public var dropsCapabilities = true
    /// Refuses the system calls that reach into other processes.
    public var filtersSystemCalls = true

    /// Hardening, with a change to `user` if given.
    public init(user: (user: UInt32, group: UInt32)? = nil) { self.user = user }
}

/// Hardens the calling process, once and for good. To be called at its start, before it has other threads, and after it
/// opened what needs privileges: afterwards even root's process has none.
public func hardenDomainProcess(_ hardening: DomainHardening = DomainHardening()) throws(HypervisorError) {
    try describing("gaining no privileges") { () throws(Errno) in try retryingInterrupts { causeway_no_new_privileges() } }
    if let user = hardening.user {
        try describing("becoming user \(user.user)") { () throws(Errno) in
            try retryingInterrupts { causeway_become_user(user.user, user.group) }
        }
    }
    if hardening.dropsCapabilities {
        try describing("dropping capabilities") { () throws(Errno) in try retryingInterrupts { causeway_drop_capabilities() } }
    }
    // After the change of user, which resets it.
    try describing("becoming undumpable") { () throws(Errno) in try retryingInterrupts { causeway_set_undumpable() } }
    if hardening.filtersSystemCalls {
        try describing("filtering system calls") { () throws(Errno) in
            try retryingInterrupts { causeway_filter_system_calls() }
        }
    }
}
