// Which image, in which cluster, by whose right; and why it cannot be had.

import Glibc
import LinuxSystem

/// An image's place in a cluster.
package struct RBDPlace: Sendable, Equatable {
    /// The pool.
    package var pool: String
    /// The namespace within it; empty: the pool's own.
    package var nameSpace: String
    /// The image.
    package var image: String
    /// Which of its snapshots; empty: the image as it is now.
    package var snapshot: String
    /// Whose key is used, without `client.`.
    package var user: String
    /// The cluster's configuration; nil: where Ceph looks for it.
    package var configuration: String?
    /// More options of that configuration, in their order.
    package var options: [Option]

    /// One option of a cluster's configuration.
    package struct Option: Sendable, Equatable {
        /// Ceph's name for it.
        package var name: String
        /// As Ceph reads it.
        package var value: String

        /// As given.
        package init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    /// As given.
    package init(
        pool: String, nameSpace: String = "", image: String, snapshot: String = "", user: String = "admin",
        configuration: String? = nil, options: [Option] = []
    ) {
        self.pool = pool
        self.nameSpace = nameSpace
        self.image = image
        self.snapshot = snapshot
        self.user = user
        self.configuration = configuration
        self.options = options
    }
}

/// What librbd or the cluster says against it.
package struct RBDError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What was being done.
    package enum Stage: Equatable, Sendable {
        /// Finding the library; the loader's words.
        case loading(String)
        case configuring(String?)
        case setting(String)
        case connecting(user: String)
        case openingPool(String)
        case opening(String)
        /// Asking about the image, or for its lock.
        case asking(String)
        case breaking(owner: String)
        case waking
    }
    /// What was being done.
    package let stage: Stage
    /// The number that it ended with.
    package let number: Errno

    /// As given.
    package init(_ stage: Stage, _ number: Errno) {
        self.stage = stage
        self.number = number
    }

    /// Whether trying again may help: nobody answered in time. What a cluster that is there says stays said.
    package var mayPass: Bool { [ETIMEDOUT, EHOSTUNREACH, ECONNREFUSED].contains(number.rawValue) }

    /// One clause.
    package var description: String {
        switch stage {
        case .loading(let words): "Ceph's library is not there (Debian's librbd1): \(words)"
        case .configuring(let path): "the configuration \(path ?? "of Ceph") cannot be read: \(number)"
        case .setting(let option): "the option \(option) is not taken: \(number)"
        case .connecting where mayPass: "the cluster does not answer"
        case .connecting(let user) where number == .noSuchFile: "no key of client.\(user) is in the cluster's keyrings"
        case .connecting(let user) where number == .permissionDenied || number == .notPermitted:
            "the cluster refuses client.\(user): there is no such user, or it has another key"
        case .connecting(let user): "client.\(user) cannot connect: \(number)"
        case .openingPool(let pool) where number == .noSuchFile: "the cluster has no pool \(pool)"
        case .openingPool(let pool): "pool \(pool): \(number)"
        case .opening where mayPass: "the cluster's OSDs do not answer"
        case .opening(let image) where number == .noSuchFile: "there is no \(image)"
        case .opening(let image) where number == .notPermitted || number == .permissionDenied: "this user may not open \(image)"
        case .opening(let image): "\(image) cannot be opened: \(number)"
        case .asking where mayPass: "the cluster's OSDs do not answer"
        case .asking(let what): "\(what): \(number)"
        case .breaking(let owner) where number == .permissionDenied || number == .notPermitted:
            "this user may not take the lock from \(owner) (it needs `mon 'profile rbd'`)"
        case .breaking(let owner): "the lock cannot be taken from \(owner): \(number)"
        case .waking: "no descriptor to be woken by: \(number)"
        }
    }
}
