// From what a user wrote to a disk.

/// How an image's bytes make up a disk. Only what the caller says counts; the image is never asked (XSA-258).
public enum ImageFormat: String, Sendable, Equatable {
    /// Byte for byte.
    case raw
}

/// Opens the disk at `target`: a path, an NBD URI, or `null:SIZE`. May block while an NBD server is connected to.
///
/// - Parameters:
///   - direct: whether a file's or block device's I/O goes past the page cache.
///   - sharing: who else may use a file or block device meanwhile.
///   - reconnect: how long an NBD server that went away is tried.
public func openBlockDevice(
    target: String, format: ImageFormat = .raw, readOnly: Bool = false, direct: DirectIO = .never,
    sharing: DeviceSharing = .exclusive, reconnect: NBDReconnect = NBDReconnect()
) throws(DeviceError) -> any BlockDevice {
    switch try DeviceTarget(target) {
    case .path(let path): try FileDisk(path: path, readOnly: readOnly, direct: direct, sharing: sharing)
    case .nbd(let uri): try NBDDisk(uri: uri, readOnly: readOnly, reconnect: reconnect)
    case .null(let byteCount): NullDisk(byteCount: byteCount, isReadOnly: readOnly)
    }
}
