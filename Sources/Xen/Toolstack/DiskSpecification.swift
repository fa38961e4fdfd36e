// A disk as xl's configuration describes it (xl-disk-configuration(5)). Plain values; parsing and printing are beside
// it.

/// One disk: what it is backed by and how a guest sees it.
public struct DiskSpecification: Hashable, Sendable {
    /// The image's format. Only what is written counts: an image's bytes are never looked at (attacks.md A32).
    public enum Format: String, Hashable, Sendable, CaseIterable { case raw, qcow, qcow2, vhd, qed, empty }

    /// Which implementation serves it, and so the backend's kind in the store.
    public enum BackendType: String, Hashable, Sendable, CaseIterable { case phy, qdisk, tap, standalone }

    /// The protocol between guest and backend.
    public enum Specification: String, Hashable, Sendable, CaseIterable { case xen, virtio }

    /// The replication parameters of xl's COLO; kept and printed, not acted upon.
    public struct Replication: Hashable, Sendable {
        /// `colo` or `no-colo`.
        public var isEnabled: Bool?
        /// `colo-host`.
        public var host: String?
        /// `colo-port`.
        public var port: UInt16?
        /// `colo-export`.
        public var export: String?
        /// `active-disk`.
        public var activeDisk: String?
        /// `hidden-disk`.
        public var hiddenDisk: String?
        /// Nothing given.
        public init() {}
    }

    /// A path, an NBD URI, `null:SIZE`, `nvme:ADDRESS`, `rbd:POOL/IMAGE`, or what `script` understands. Empty for a CD
    /// drive without a disc.
    public var target: String
    /// The format; `empty` for a CD drive without a disc.
    public var format: Format
    /// Which disk the guest sees.
    public var vdev: VirtualDevice
    /// Whether the guest may only read.
    public var isReadOnly: Bool
    /// `w!`: whether anybody else has the disk's bytes is not asked.
    public var isShared = false
    /// `cdrom`: the guest sees a CD drive.
    public var isCDROM = false
    /// The guest may expect the medium to change; always so for a CD drive.
    public var isRemovable = false
    /// The backend's domain, by name or number; nil for domain 0.
    public var backend: String?
    /// `backendtype`; nil lets the toolstack choose.
    public var backendType: BackendType?
    /// `script`; nil for the kind's own.
    public var script: String?
    /// `direct-io-safe`: the backend may bypass the page cache.
    public var isDirectIOSafe = false
    /// `discard` or `no-discard`; nil: offered if the disk can be written.
    public var discard: Bool?
    /// `trusted` or `untrusted`; nil: trusted.
    public var trusted: Bool?
    /// `specification`.
    public var specification = Specification.xen
    /// `grant_usage`, of virtio only.
    public var grantUsage: Bool?
    /// `front`: whose the disk is; nil: a frontend's of Xen's. Not xl's.
    public var front: DeviceFront?
    /// `reconnect-delay`: seconds that an NBD server that is away, or a cluster when the disk is opened, is waited for;
    /// nil: as long as the backend says. Not xl's.
    public var reconnectDelay: UInt32?
    /// COLO.
    public var replication = Replication()

    /// A disk with xl's defaults.
    public init(target: String, format: Format = .raw, vdev: VirtualDevice, isReadOnly: Bool = false) {
        self.target = target
        self.format = format
        self.vdev = vdev
        self.isReadOnly = isReadOnly
    }

    /// Whether the backend is told to offer discard: as given, else if the disk can be written.
    public var offersDiscard: Bool { discard ?? !isReadOnly }

    /// The schemes that make a target an NBD URI rather than a deprecated prefix.
    static let uriSchemes: Set<String> = ["nbd", "nbds", "nbd+unix", "nbds+unix", "nbd+vsock", "nbds+vsock"]

    /// Whether the target is an NBD URI.
    public var isNBD: Bool { Self.uriSchemes.contains { target.hasPrefix($0 + "://") } }

    /// Whether the target is an image of a Ceph cluster.
    public var isRBD: Bool { target.hasPrefix("rbd:") }

    /// The size in bytes of a `null:SIZE` target (suffixes K, M, G, T; powers of 1024); nil for any other target.
    public var nullDeviceSize: UInt64? {
        guard target.hasPrefix("null:") else { return nil }
        return Self.parseSize(target.dropFirst("null:".count))
    }

    /// Whether the target is a path in the file system.
    public var isPath: Bool {
        !isNBD && !isRBD && !target.hasPrefix("null:") && !target.hasPrefix("nvme:") && !target.isEmpty && script == nil
    }

    private static func parseSize(_ text: Substring) -> UInt64? {
        let shifts: [Character: UInt64] = ["K": 10, "M": 20, "G": 30, "T": 40]
        let shift = text.last.flatMap { shifts[Character($0.uppercased())] }
        let digits = shift == nil ? text : text.dropLast()
        guard let first = digits.first, first.isDecimalDigit, let count = UInt64(digits) else { return nil }
        let (size, overflow) = count.multipliedReportingOverflow(by: 1 << (shift ?? 0))
        return overflow ? nil : size
    }
}
