// By which addresses images were locked from here: the lock of a process that was killed is its successor's to break,
// at once, and nobody else's lock is. A process writes its address down before it asks for the lock, so that there is
// no moment at which a kill leaves a lock that nobody knows.

import LinuxSystem
import Synchronization

/// Addresses of those who have locked images from one place, of whom one process at a time lives.
public struct RBDLockRecord: Sendable {
    private let path: String

    /// - Parameters:
    ///   - directory: where the record is kept; not beyond a restart of the machine, which ends all connections.
    ///   - name: what only one process at a time serves there.
    public init(directory: String, name: String) { path = "\(directory)/\(name).rbd" }

    /// What is written for one image: addresses, the latest last.
    private func addresses(of image: String) -> [String] {
        for line in (FileSystem.text(of: path) ?? "").split(separator: "\n") {
            let words = line.split(separator: " ").map(String.init)
            if words.first == image { return Array(words.dropFirst()) }
        }
        return []
    }

    /// Whether the image was locked from here by `owner`.
    func knows(_ owner: String, of image: String) -> Bool { addresses(of: image).contains(owner) }

    /// The image is about to be locked by `address`; it may still be by those who were before.
    func add(_ address: String, of image: String) throws(Errno) { try put(addresses(of: image) + [address], of: image) }

    /// The image is locked by `address`.
    func settle(_ address: String, of image: String) throws(Errno) { try put([address], of: image) }

    /// `address` has not asked for the lock, and will not.
    func forget(_ address: String, of image: String) throws(Errno) {
        try put(addresses(of: image).filter { $0 != address }, of: image)
    }

    private func put(_ addresses: [String], of image: String) throws(Errno) {
        try Self.writing.withLock { _ throws(Errno) in
            var lines = (FileSystem.text(of: path) ?? "").split(separator: "\n").map(String.init).filter {
                !$0.hasPrefix("\(image) ")
            }
            // Those that were killed while they asked do not make it long.
            lines.append("\(image) \(addresses.suffix(16).joined(separator: " "))")
            try FileSystem.replace(path, with: Array((lines.joined(separator: "\n") + "\n").utf8))
        }
    }

    /// One disk at a time: it is one file.
    private static let writing = Mutex(())
}

/// The addresses that this process has itself, for as long as it has them.
enum RBDOwnAddresses {
    private static let all = Mutex<Set<String>>([])

    static func add(_ address: String) { all.withLock { _ = $0.insert(address) } }
    static func remove(_ address: String) { all.withLock { _ = $0.remove(address) } }
    static func has(_ address: String) -> Bool { all.withLock { $0.contains(address) } }
}
