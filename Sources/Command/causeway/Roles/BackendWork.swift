// What one backend process serves, and how.

import BlockBackend
import CommandSupport
import NetworkBackend

/// Disks, interfaces, or both.
struct BackendWork: Sendable {
    var disks: BlockBackendOptions
    var interfaces: NetworkBackendOptions
    var servesDisks = true
    var servesInterfaces = true
    /// Whether interfaces are made in memory, for benchmarks: no taps.
    var memoryVifs = false

    /// Whether images are taken from whoever has their locks.
    var takesOver = false

    /// Where the sockets are by which all of them can be reached over vhost-user, too; nil: they cannot.
    var vhostDirectory: String?

    /// What the program before this one has put down for it, as `ExportSuccession` has it; nil: there was none.
    var left: String?

    /// Who keeps what front ends of vhost-user need, should this process be killed; nil: nobody.
    var keeper: KeeperLink? { didSet { controllers = keeper.map { KeptControllers($0) } } }
    /// The part of it that NVMe controllers have.
    private(set) var controllers: KeptControllers?

    /// What this process is confined to, to be said once it serves.
    var confined: String?

    /// With both options as they are.
    init(disks: BlockBackendOptions, interfaces: NetworkBackendOptions) {
        self.disks = disks
        self.interfaces = interfaces
    }

    /// Threads for disks, and as many for interfaces.
    mutating func useReactors(_ count: Int) {
        disks.reactors = count
        interfaces.reactors = count
    }

    /// Devices may be made to go wrong on purpose.
    mutating func takeFaults() {
        disks.takesFaults = true
        interfaces.takesFaults = true
    }

    /// Says that one of both is served now.
    func saySomethingIsServed(_ line: String, isFirst: Bool) {
        if isFirst, let confined { note(confined) }
        note(line)
    }

    /// Tells what is not wrong.
    mutating func tellNotes() {
        disks.notes = { note("blkback: \($0)") }
        interfaces.notes = { note("netback: \($0)") }
    }

    /// Whether what keeps a device from its first connection is told in its error node only.
    mutating func leaveAttachErrors(_ leaves: Bool) {
        disks.leavesAttachErrors = leaves
        interfaces.leavesAttachErrors = leaves
    }

    /// Whether hot-plug scripts run, and have to have run.
    mutating func waitForScripts(_ waits: Bool) {
        disks.waitsForScript = waits
        interfaces.waitsForScript = waits
    }

    /// Whether directories of closed devices are removed here.
    mutating func removeDirectories(_ removes: Bool) {
        disks.removesDirectories = removes
        interfaces.removesDirectories = removes
    }

    /// Where a successor finds what it needs; nil: nowhere.
    mutating func keepJournals(in directory: String?) {
        disks.journalDirectory = directory
        interfaces.journalDirectory = directory
    }
}
