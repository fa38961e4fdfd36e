// What one backend process serves, and how.

import BlockBackend
import NetworkBackend

/// Disks, interfaces, or both.
struct BackendWork: Sendable {
    var disks: BlockBackendOptions
    var interfaces: NetworkBackendOptions
    var servesDisks = true
    var servesInterfaces = true
    /// Whether interfaces are made in memory, for benchmarks: no taps.
    var memoryVifs = false

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
