// The errors that the wire knows, by the names that travel (`xsd_errors`, xs_wire.h).

/// A refusal as the server answers it.
public enum StoreErrorName: String, Error, CaseIterable, Sendable {
    case EINVAL, EACCES, EEXIST, EISDIR, ENOENT, ENOMEM, ENOSPC, EIO, ENOTEMPTY, ENOSYS, EROFS, EBUSY, EAGAIN, EISCONN, E2BIG, EPERM
}
