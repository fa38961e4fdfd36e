// Which files a process may reach by a path (Landlock). What it has open stays open.

import CLinux

/// What is allowed below one path.
public struct FileRule: Sendable {
    /// What may be done there.
    public enum Access: UInt8, Sendable {
        /// Files and directories may be read.
        case read = 0
        /// Everything but running programs.
        case write = 1
        /// Files may be removed.
        case remove = 2
    }
    /// A directory and all below it, or a file.
    public let path: String
    /// What may be done there.
    public let access: Access

    /// A rule for `path`; one that is not there allows nothing.
    public init(_ path: String, _ access: Access) {
        self.path = path
        self.access = access
    }
}

/// Landlock.
public enum FileRules {
    /// The kernel's version of it; 0: it has none.
    public static var version: Int { Int(causeway_landlock_version()) }

    /// Refuses the calling thread, and those that it starts, every file that no rule allows, TCP, and signals to
    /// processes that are not below it, as far as the kernel's version goes. Takes no_new_privs.
    public static func restrict(to rules: [FileRule]) throws(Errno) {
        let access = rules.map(\.access.rawValue)
        // SAFETY: the strings and the two arrays are there during the call, which copies nothing.
        _ = try retryingInterrupts {
            unsafe withCStrings(rules.map(\.path)) { paths in
                let paths = unsafe paths.map { unsafe UnsafePointer<CChar>($0) }
                return unsafe causeway_restrict_files(paths, access, access.count)
            }
        }
    }
}
