// What a hypervisor refuses, and why.

import XenTypes

/// Why the hypervisor did not do it.
public enum HypervisorError: Error, Hashable, Sendable, CustomStringConvertible {
    /// One grant of a batch could not be mapped; the others were unmapped again (attacks.md A5).
    case grantRefused(GrantReference, of: DomainID, GrantStatus)
    /// An event-channel operation was refused.
    case portRefused(EventPort, of: DomainID, reason: String)
    /// There is no domain of this number, or it is none that this may be asked of.
    case noSuchDomain(DomainID)
    /// A limit was reached: `what` names it and its size.
    case exhausted(String)
    /// The connection to the hypervisor is gone, or it broke its protocol.
    case disconnected(String)
    /// A system call failed while `doing` something.
    case system(String, doing: String)

    /// One clause, to stand behind what was being done: `grant 8 of domain 3: bad handle`.
    public var description: String {
        switch self {
        case .grantRefused(let reference, let domain, let status): "grant \(reference) of domain \(domain): \(status)"
        case .portRefused(let port, let domain, let reason):
            // Xen knows one code for both.
            "port \(port) of domain \(domain): \(reason == "EINVAL" ? "no such port, or not for this domain" : reason)"
        case .noSuchDomain(let domain): "domain \(domain): no such domain"
        case .exhausted(let what): what
        case .disconnected(let why): "no connection to the hypervisor: \(why)"
        case .system(let reason, let doing): "\(doing): \(reason)"
        }
    }
}
