// The peers' runs that this process has been given, each mapped once and kept until its owner gives it up: mapping a
// page costs 6 to 12 µs and a grant that was unmapped is likely to be mapped again. The daemon says when a run is gone.

import Hypervisor
import HypervisorRules
import LinuxSystem
import SharedMemory
import Synchronization
import XenTypes

/// A run in one direction: a map for reading only has a mapping of its own that cannot write.
struct RunView: Hashable, Sendable {
    var run: RunID
    var access: GrantAccess
}

/// A run's descriptor, and its mapping once somebody needed it.
struct CachedRun: Sendable {
    let descriptor: Descriptor
    let byteCount: Int
    let machine: MachineRun?
    var region: SharedRegion?
}

final class RunCache: Sendable {
    private let runs = Mutex<[RunView: CachedRun]>([:])

    /// Takes a descriptor that the daemon passed, if it is what the daemon makes: memory whose size cannot change.
    /// Anything else could fault or hang whoever touches it.
    func add(_ view: RunView, _ descriptor: Descriptor, pages: Int, machine: MachineRun? = nil) -> Bool {
        guard pages > 0, pages <= 1 << 20 else { return false }
        let byteCount = pages * SharedRegion.pageSize
        guard SealedMemory.isSealed(descriptor, byteCount: byteCount) else { return false }
        runs.withLock { $0[view] = CachedRun(descriptor: descriptor, byteCount: byteCount, machine: machine) }
        return true
    }

    func descriptor(_ view: RunView) -> Descriptor? { runs.withLock { $0[view]?.descriptor } }

    /// Where its pages are in the machine.
    func machine(_ view: RunView) -> MachineRun? { runs.withLock { $0[view]?.machine } }

    /// The whole run, mapped.
    func region(_ view: RunView) throws(Errno) -> SharedRegion? {
        try runs.withLock { runs throws(Errno) in
            guard let cached = runs[view] else { return nil }
            if let region = cached.region { return region }
            let region = try SharedRegion(
                mapping: cached.descriptor, byteCount: cached.byteCount, writable: view.access == .readWrite)
            runs[view]?.region = region
            return region
        }
    }

    /// The run is nobody's any more. Its pages go when the last user of its region lets go.
    func drop(_ run: RunID) {
        let dropped = runs.withLock { runs in
            [
                runs.removeValue(forKey: RunView(run: run, access: .readOnly)),
                runs.removeValue(forKey: RunView(run: run, access: .readWrite)),
            ]
        }
        _ = dropped
    }

    /// How many runs are kept; tests hold it against a baseline.
    var count: Int { runs.withLock { $0.count } }
}
