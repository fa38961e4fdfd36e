// A program that is to be run for somebody: looked for before anything is started for it, as a shell looks for it.

import FoundationEssentials
import LinuxSystem

package enum Program {
    /// Throws unless `name` can be run, as far as can be told before: with status 127 if there is no such program, 126
    /// if it is there and cannot be run.
    package static func check(_ name: String) throws(Failure) {
        if name.contains("/") { return try check(file: name, as: name) }
        // What posix_spawnp looks through; a piece without a name is the working directory.
        let path = ProcessInfo.processInfo.environment["PATH"] ?? "/bin:/usr/bin"
        var obstacle: Failure?
        for place in path.split(separator: ":", omittingEmptySubsequences: false) where !name.isEmpty {
            let file = "\(place.isEmpty ? "." : place)/\(name)"
            guard FileSystem.exists(file) else { continue }
            do throws(Failure) { return try check(file: file, as: name) } catch { obstacle = obstacle ?? error }
        }
        throw obstacle ?? .cannotRun(name, "no such program in the PATH", isThere: false)
    }

    private static func check(file: String, as name: String) throws(Failure) {
        let kind: FileKind
        do throws(Errno) { kind = try FileSystem.kind(of: file) } catch {
            throw .cannotRun(name, "\(error)", isThere: error != .noSuchFile && error != .notADirectory)
        }
        guard kind == .regular else { throw .cannotRun(name, "no regular file", isThere: true) }
        guard FileSystem.isExecutable(file) else { throw .cannotRun(name, "\(Errno.permissionDenied)", isThere: true) }
    }
}
