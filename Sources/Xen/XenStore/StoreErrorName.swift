// The errors that the wire knows, by the names that travel (`xsd_errors`, xs_wire.h).

/// A refusal as the server answers it.
public enum StoreErrorName: String, Error, CaseIterable, Sendable, CustomStringConvertible {
    case EINVAL, EACCES, EEXIST, EISDIR, ENOENT, ENOMEM, ENOSPC, EIO, ENOTEMPTY, ENOSYS, EROFS, EBUSY, EAGAIN, EISCONN, E2BIG, EPERM

    /// What the store means by it.
    public var description: String {
        switch self {
        case .EINVAL: "not valid"
        case .EACCES: "this domain may not"
        case .EEXIST: "it is there already"
        case .EISDIR: "it has nodes below it"
        case .ENOENT: "no such node"
        case .ENOMEM: "the store has no memory left"
        case .ENOSPC: "the domain's quota of nodes, watches or transactions is used up"
        case .EIO: "the store cannot read or write it"
        case .ENOTEMPTY: "it is not empty"
        case .ENOSYS: "the store does not know this request"
        case .EROFS: "it can only be read"
        case .EBUSY: "the domain's limit is reached for now"
        case .EAGAIN: "somebody else changed it meanwhile"
        case .EISCONN: "it is connected already"
        case .E2BIG: "it is too large"
        case .EPERM: "only a privileged domain may"
        }
    }
}
