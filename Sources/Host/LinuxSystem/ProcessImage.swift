// This process, begun anew.

import Glibc

/// Begins this process's program anew, with the same arguments and 1 as a variable of its environment, unless the
/// variable is set; returns if it was.
/// - Parameter arguments: the program's own, its name first.
package func beginAnew(_ arguments: [String], unless variable: String) throws(Errno) {
    // SAFETY: strings that are there for the call.
    if unsafe getenv(variable) != nil { return }
    _ = unsafe setenv(variable, "1", 1)
    var list = unsafe arguments.map { unsafe strdup($0) } + [nil]
    defer { unsafe list.forEach { unsafe free($0) } }
    // SAFETY: strings of this function's own, with a null behind the last; where the call returns nothing has changed.
    _ = unsafe execv("/proc/self/exe", &list)
    throw Errno.current
}
