// A pair's own run directory: private and gone with the pair, unless one was given. Nobody else's pair is in it.

import FoundationEssentials
import Glibc
import LinuxSystem

package struct PairDirectory: Sendable {
    package let run: RunDirectory
    /// Whether it goes with its user.
    package let isPrivate: Bool
    /// Held for as long as this pair runs; nil: by the process that started this one.
    private let claim: FileClaim?

    /// The file that says whose a directory is.
    private static let claimName = "pair.lock"

    /// - Parameter user: whom messages name.
    package init(given: RunDirectory?, for user: String = "pair") throws(Failure) {
        if let given {
            FileSystem.makeDirectory(given.path, mode: 0o755)
            claim = try Self.claim(given, user)
            run = given
            isPrivate = false
            return
        }
        let base = ProcessInfo.processInfo.environment["TMPDIR"].flatMap { $0.isEmpty ? nil : $0 } ?? "/tmp"
        Self.sweep(base)
        let made: String
        do throws(Errno) { made = try FileSystem.makeTemporaryDirectory("\(base)/causeway.") } catch {
            throw Failure("\(user): \(base): cannot make a directory: \(error)")
        }
        run = try RunDirectory(made)
        claim = try Self.claim(run, user)
        isPrivate = true
    }

    /// The directory of the program that this process was before; whose it is has not changed.
    package init(resuming path: String, isPrivate: Bool, for user: String) throws(Failure) {
        run = try RunDirectory(path)
        claim = try Self.claim(run, user)
        self.isPrivate = isPrivate
    }

    /// A directory that another process has claimed, which started this one for its work.
    package init(of path: String) throws(Failure) {
        run = try RunDirectory(path)
        (isPrivate, claim) = (false, nil)
    }

    private static func claim(_ run: RunDirectory, _ user: String) throws(Failure) -> FileClaim {
        do throws(ClaimError) { return try FileClaim("\(run)/\(claimName)", time: SystemTime()) } catch {
            switch error {
            case .taken(let holder): throw Failure("\(user): \(run): in use by \(holder)")
            case .system(let reason): throw Failure("\(user): \(run)/\(claimName): \(reason)")
            }
        }
    }

    /// Removes the private directories of pairs that were killed: those whose claims nobody has any more, once they are
    /// a minute old, for a pair that is about to claim its own.
    private static func sweep(_ base: String) {
        for name in FileSystem.names(in: base) where name.hasPrefix("causeway.") {
            let path = "\(base)/\(name)"
            guard FileSystem.isOld(path, seconds: 60, by: SystemTime()),
                FileManager.default.fileExists(atPath: "\(path)/\(claimName)"),
                let abandoned = try? FileClaim("\(path)/\(claimName)", time: SystemTime())
            else { continue }
            try? FileManager.default.removeItem(atPath: path)
            withExtendedLifetime(abandoned) {}
        }
    }

    /// The NBD socket of a disk.
    package func socket(of vdev: String) -> String { "\(run)/\(vdev).sock" }

    /// Where the backend leaves what its successor needs.
    package var journal: String { "\(run)/journal" }

    package func remove() {
        // The claim's file stays in a directory that was given: one that is removed could be locked by two.
        guard isPrivate else { return }
        try? FileManager.default.removeItem(atPath: run.path)
    }
}
