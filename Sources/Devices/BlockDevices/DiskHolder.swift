// Who has a disk's bytes when somebody else wants them.

import LinuxSystem

/// Somebody who has a disk's bytes, or some of them, by this path or another.
public struct DiskHolder: Equatable, Sendable, CustomStringConvertible {
    /// What is done with them.
    public enum Use: Equatable, Sendable {
        /// A file system that is mounted there.
        case mounted(at: String)
        /// One of the devices of a btrfs file system whose mount is none of ours.
        case btrfs(identifier: String)
        /// Swap space.
        case swap
        /// Part of a volume or an array.
        case part(of: String)
        /// Locked by a process; nil: by one that cannot be told.
        case locked(by: ClaimHolder?)
        /// Open for writing in a process.
        case written(by: ClaimHolder)
        /// Opened exclusively by somebody who cannot be told.
        case exclusive
    }

    /// The disk by its own path, or what stands on it or below it: a partition, a loop device, a file.
    public let thing: String
    /// What is done with it.
    public let use: Use

    /// Whether the holder may be a process on its last steps, such as a predecessor.
    public var mayBeEnding: Bool {
        switch use {
        case .locked, .exclusive: true
        case .mounted, .btrfs, .swap, .part, .written: false
        }
    }

    /// As of a disk that is called otherwise.
    public var description: String { describe(for: "") }

    /// `/dev/loop0 is mounted at /mnt`; of the disk called `name`, `mounted at /mnt`.
    func describe(for name: String) -> String {
        let (subject, object) = thing == name ? ("", "it") : ("\(thing) is ", thing)
        return switch use {
        case .mounted(let place): "\(subject)mounted at \(place)"
        case .btrfs(let identifier): "\(subject)a device of the btrfs file system \(identifier)"
        case .swap: "\(subject)swap space"
        case .part(let whole): "\(subject)part of \(whole)"
        case .locked(let holder?): "\(holder) has locked \(object)"
        case .locked(nil): "another process has locked \(object)"
        case .written(let holder): "\(holder) has \(object) open for writing"
        case .exclusive: "\(subject)mounted elsewhere, part of a volume, or opened exclusively by another process"
        }
    }
}
