// Why an image cannot be had, in words.

import Glibc
import LinuxSystem

/// What librbd or the cluster says against it.
package struct RBDError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What was being done.
    package enum Stage: Equatable, Sendable, CustomStringConvertible {
        /// The library was being found; the loader's words.
        case loading(String)
        case configuring(String?)
        case setting(String)
        case connecting(user: String)
        case openingPool(String)
        case opening(String)
        /// The image was asked, or asked for.
        case asking(String)
        case breaking(owner: String)
        /// The image has no lock that could be had.
        case unlockable
        /// A descriptor to be woken by was being made.
        case waking

        /// What it is about.
        package var description: String {
            switch self {
            case .loading(let words): "Ceph's library is not there (Debian's librbd1): \(words)"
            case .configuring(let path): "the configuration \(path ?? "of Ceph") cannot be read"
            case .setting(let option): "the option \(option) is not taken"
            case .connecting(let user): "client.\(user) cannot connect"
            case .openingPool(let pool): "pool \(pool)"
            case .opening(let image): "\(image) cannot be opened"
            case .asking(let what): what
            case .breaking(let owner): "the lock cannot be taken from \(owner)"
            case .unlockable:
                "the image has not the feature exclusive-lock: nothing keeps a second writer out (mode w! attaches it nevertheless)"
            case .waking: "no descriptor to be woken by"
            }
        }
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

    private var isMissing: Bool { number == .noSuchFile }
    private var isForbidden: Bool { number == .notPermitted || number == .permissionDenied }

    /// One clause.
    package var description: String {
        switch stage {
        case .loading, .unlockable: "\(stage)"
        case .connecting where mayPass: "the cluster does not answer"
        case .connecting(let user) where isMissing: "no key of client.\(user) is in the cluster's keyrings"
        case .connecting(let user) where isForbidden:
            "the cluster refuses client.\(user): there is no such user, or it has another key"
        case .opening where mayPass, .asking where mayPass: "the cluster's OSDs do not answer"
        case .openingPool(let pool) where isMissing: "the cluster has no pool \(pool)"
        case .opening(let image) where isMissing: "there is no \(image)"
        case .opening(let image) where isForbidden: "this user may not open \(image)"
        case .breaking(let owner) where isForbidden: "this user may not take the lock from \(owner) (it needs `mon 'profile rbd'`)"
        default: "\(stage): \(number)"
        }
    }
}
