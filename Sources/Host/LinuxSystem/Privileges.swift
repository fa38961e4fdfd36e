// What a service keeps of root's powers: what it uses, and no more.

import CLinux

/// A capability of the kernel's (capabilities(7)), as far as this project has a use for it.
public enum Capability: Int, CaseIterable, Sendable, CustomStringConvertible {
    /// Files given to another user.
    case giveFiles = 0
    /// Files whose permissions say otherwise: disk images of other users.
    case overrideFilePermissions = 1
    /// Permissions and times of files of other users.
    case actAsOwner = 3
    /// Another group, and none beside it.
    case changeGroup = 6
    /// Another user.
    case changeUser = 7
    /// Capabilities that are given up for what is started later, too.
    case boundCapabilities = 8
    /// Taps, and what is set on them.
    case administerNetwork = 12
    /// Memory that is locked beyond the limit, for io_uring on kernels before 5.12.
    case lockMemory = 14
    /// What a device's own commands are, past the kernel's.
    case commandDevices = 17
    /// Other processes' memory and namespaces.
    case lookIntoProcesses = 19
    /// Namespaces, mounts, and much else.
    case administer = 21
    /// More of what is limited: descriptors under way.
    case exceedLimits = 24

    /// `CAP_NET_ADMIN`.
    public var description: String {
        switch self {
        case .giveFiles: "CAP_CHOWN"
        case .overrideFilePermissions: "CAP_DAC_OVERRIDE"
        case .actAsOwner: "CAP_FOWNER"
        case .changeGroup: "CAP_SETGID"
        case .changeUser: "CAP_SETUID"
        case .boundCapabilities: "CAP_SETPCAP"
        case .administerNetwork: "CAP_NET_ADMIN"
        case .lockMemory: "CAP_IPC_LOCK"
        case .commandDevices: "CAP_SYS_RAWIO"
        case .lookIntoProcesses: "CAP_SYS_PTRACE"
        case .administer: "CAP_SYS_ADMIN"
        case .exceedLimits: "CAP_SYS_RESOURCE"
        }
    }
}

/// What the calling thread may do.
public enum Privileges {
    /// Gives up, for good, every capability but `kept`, and the way to get any back: neither this process nor one that
    /// it starts gains privileges any more. To be called before there are other threads. A process without privileges
    /// loses nothing.
    public static func keepOnly(_ kept: [Capability]) throws(Errno) {
        var mask: UInt64 = 0
        for capability in kept { mask |= 1 << UInt64(capability.rawValue) }
        _ = try retryingInterrupts { causeway_no_new_privileges() }
        _ = try retryingInterrupts { causeway_keep_capabilities(mask) }
    }

    /// The capabilities in effect: `none`, or their names; one without a name here by its number.
    public static var summary: String {
        let mask = causeway_capabilities()
        let names = (0..<64).filter { mask >> UInt64($0) & 1 == 1 }.map {
            Capability(rawValue: $0)?.description ?? "capability \($0)"
        }
        return names.isEmpty ? "none" : names.joined(separator: ", ")
    }
}
