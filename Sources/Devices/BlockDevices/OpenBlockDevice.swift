// From what a user wrote to a disk.

import DMA
import LinuxSystem

/// How an image's bytes make up a disk. Only what the caller says counts; the image is never asked (attacks.md A32).
public enum ImageFormat: String, Sendable, Equatable {
    /// Byte for byte.
    case raw
}

/// A controller's namespace, as it was asked for.
public struct ControllerTarget: Sendable {
    /// As it was written.
    public let name: String
    /// Where the controller is.
    public let address: PCIAddress
    /// nil: the only one.
    public let namespace: UInt32?

    /// As given.
    public init(name: String, address: PCIAddress, namespace: UInt32?) {
        self.name = name
        self.address = address
        self.namespace = namespace
    }
}

/// How a disk is opened.
public struct BlockDeviceOptions: Sendable {
    /// How an image's bytes make up the disk.
    public var format = ImageFormat.raw
    /// Whether writes are refused.
    public var readOnly: Bool
    /// Whether a file's or block device's I/O goes past the page cache.
    public var direct: DirectIO
    /// Who else may use a file or block device meanwhile.
    public var sharing = DeviceSharing.exclusive
    /// Which of its users are looked for in every process.
    public var search = ProcessSearch.all
    /// How an NBD server that goes away is waited for.
    public var reconnect = NBDReconnect()
    /// Opens what this process drives itself: a controller's namespace. nil: nothing here can. `NVMe` has one.
    public var openController:
        (@Sendable (ControllerTarget, BlockDeviceOptions, any TimeSource) throws(DeviceError) -> any BlockDevice)?
    /// Opens an image of a Ceph cluster. nil: nothing here can. `RBD` has one.
    public var openImage: (@Sendable (RBDTarget, BlockDeviceOptions, any TimeSource) throws(DeviceError) -> any BlockDevice)?
    /// Where a controller that no IOMMU stands before finds memory, in a domain whose own frames are not the machine's:
    /// by its address, with somebody to tell of what goes wrong. nil: this is no such domain, or nobody says machine
    /// frames here.
    public var machineMemory: (@Sendable (PCIAddress, @escaping @Sendable (String) -> Void) -> any BusAddressSource)?
    /// Gets a line when an NBD server or a cluster is lost and when it is back, or a controller misbehaves; from any
    /// thread.
    public var log: @Sendable (String) -> Void = { _ in }

    /// A raw image for this process alone; what is otherwise is set.
    public init(readOnly: Bool = false, direct: DirectIO = .never) {
        self.readOnly = readOnly
        self.direct = direct
    }
}

/// Opens the disk at `target`: a path, an NBD URI, `null:SIZE`, a namespace of an NVMe controller, or an image of a
/// Ceph cluster. May block while an NBD server or a cluster is connected to.
///
/// - Parameter time: what an NBD server's time limit goes by.
public func openBlockDevice(
    target: String, options: BlockDeviceOptions = BlockDeviceOptions(), time: some TimeSource
) throws(DeviceError) -> any BlockDevice {
    let readOnly = options.readOnly
    switch try DeviceTarget(target) {
    case .path(let path):
        return try FileDisk(
            path: path, readOnly: readOnly, direct: options.direct, sharing: options.sharing, search: options.search)
    case .nbd(let uri):
        return try NBDDisk(uri: uri, readOnly: readOnly, reconnect: options.reconnect, time: time, log: options.log)
    case .null(let byteCount): return NullDisk(byteCount: byteCount, isReadOnly: readOnly)
    case .nvme(let address, let namespace):
        guard let open = options.openController else {
            throw .badTarget(target, reason: "this program drives no NVMe controllers")
        }
        return try open(ControllerTarget(name: target, address: address, namespace: namespace), options, time)
    case .rbd(let image):
        guard let open = options.openImage else { throw .badTarget("\(image)", reason: "this program opens no images of Ceph's") }
        return try open(image, options, time)
    }
}
