// What each kind of process has to do with the system; everything else is taken from it. Docs/confinement.md has the
// table that people read.

import LinuxSystem

/// What a process is for.
public enum ConfinedRole: String, Sendable, CaseIterable {
    /// The loopback hypervisor and the store.
    case host
    /// Serves devices.
    case backend
    /// A disk's frontend: it has no files, and no network.
    case blockFrontend = "frontend"
    /// An interface's frontend: it has a tap.
    case networkFrontend = "netfront"
    /// Keeps taps.
    case keeper = "vif-keeper"

    /// The system calls that it makes.
    var calls: CallGroups {
        switch self {
        case .host: [.base, .messages, .sockets, .fileData, .files]
        case .backend: [.base, .messages, .sockets, .fileData, .files, .rings, .programs, .namespaces, .devices, .confining]
        // Its reactor's ring is there by then, with the operations that it may do: another cannot be made.
        case .blockFrontend: [.base, .messages, .ringUse]
        case .networkFrontend: [.base, .messages, .sockets, .fileData, .files, .rings, .namespaces, .devices]
        case .keeper: [.base, .messages, .sockets, .fileData, .files, .namespaces, .devices]
        }
    }

    /// What it keeps of root's powers.
    var capabilities: [Capability] {
        switch self {
        // A domain's sockets are its user's; descriptors under way are many.
        case .host: [.giveFiles, .overrideFilePermissions, .actAsOwner, .exceedLimits]
        // Images of other users, taps wherever they are moved, devices that are driven from user space.
        case .backend:
            [
                .giveFiles, .overrideFilePermissions, .actAsOwner, .administerNetwork, .lockMemory, .commandDevices,
                .lookIntoProcesses, .administer, .exceedLimits,
            ]
        case .blockFrontend: []
        case .networkFrontend, .keeper: [.overrideFilePermissions, .administerNetwork, .lookIntoProcesses, .administer]
        }
    }

    /// Whether it can do without the files of this system.
    var needsNoFiles: Bool { self == .blockFrontend }

    /// Whether it can do without a network. A host listens where whoever looks for it, by `ss`, is to find it.
    var needsNoNetwork: Bool { self == .blockFrontend }
}
