// What the kernel lets one process have (`getrlimit(2)`).

import Glibc
import Synchronization

/// This process's limits.
package enum ResourceLimits {
    /// Bytes of memory that it may lock (`RLIMIT_MEMLOCK`); nil: any number, or the kernel does not say.
    package static var lockedMemory: UInt64? {
        guard let limit = read(__rlimit_resource_t(__RLIMIT_MEMLOCK.rawValue)) else { return nil }
        return limit.rlim_cur == rlim_t.max ? nil : UInt64(limit.rlim_cur)
    }

    private static let openFiles = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)

    /// What the soft limit of open files was before it was raised; 0: it was not.
    private static let before = Atomic<UInt64>(0)

    /// Raises the soft limit of open files to the hard one: the soft one is low for the sake of programs that use
    /// `select`, which this is none of. For a process's first moment; what it starts has the same limit.
    package static func raiseOpenFiles() {
        guard var limit = read(openFiles), limit.rlim_cur < limit.rlim_max else { return }
        let soft = limit.rlim_cur
        limit.rlim_cur = limit.rlim_max
        // SAFETY: the call reads the one structure.
        if unsafe setrlimit(openFiles, &limit) == 0 { before.store(UInt64(soft), ordering: .relaxed) }
    }

    /// How many files this process may have open; nil: the kernel does not say.
    package static var openFileLimit: UInt64? { read(openFiles).map { UInt64($0.rlim_cur) } }

    /// Runs `body`, in which a program is started, under the limit of open files that this process was started with:
    /// a program that knows nothing of us may use `select`. Not for processes whose other threads open files.
    package static func withOriginalOpenFiles<R>(_ body: () -> R) -> R {
        let soft = before.load(ordering: .relaxed)
        guard soft > 0, var limit = read(openFiles) else { return body() }
        let raised = limit.rlim_cur
        limit.rlim_cur = rlim_t(soft)
        // SAFETY: both calls read the one structure. Files that are open beyond the limit stay open.
        guard unsafe setrlimit(openFiles, &limit) == 0 else { return body() }
        defer {
            limit.rlim_cur = raised
            unsafe _ = setrlimit(openFiles, &limit)
        }
        return body()
    }

    private static func read(_ resource: __rlimit_resource_t) -> rlimit? {
        var limit = rlimit()
        // SAFETY: the call fills in the one structure that it is given.
        return unsafe getrlimit(resource, &limit) == 0 ? limit : nil
    }
}
