// What the toolstack says of a disk, in the backend's directory.

import XenBus
import XenStore

/// A disk as the toolstack wants it served.
public struct DiskSettings: Equatable, Sendable {
    /// A path, an NBD URI, `null:SIZE`, or what else `DeviceTarget` knows; empty for an empty CD drive.
    public var target: String
    /// Whether writing is allowed (`mode` contains `w`).
    public var isWritable: Bool
    /// Who else may have the disk's bytes is not asked (`mode` is `w!`).
    public var isShared = false
    /// A predecessor of this process had the disk open.
    public var isTakenOver = false
    /// `device-type` is `cdrom`.
    public var isCDROM: Bool
    /// `removable` is 1.
    public var isRemovable: Bool
    /// The page cache may be bypassed (`direct-io-safe`).
    public var isDirectSafe: Bool
    /// The administrator's word on discard; nil: whatever the disk can (`discard-enable`).
    public var discard: Bool?
    /// How long an NBD server that went away, or a cluster that is not there when the disk is opened, is waited for
    /// (`reconnect-delay`, in seconds); nil: as long as the backend's options say.
    public var reconnectDelayMilliseconds: UInt64?

    /// Settings as given.
    public init(
        target: String, isWritable: Bool, isCDROM: Bool = false, isRemovable: Bool = false, isDirectSafe: Bool = false,
        discard: Bool? = nil
    ) {
        self.target = target
        self.isWritable = isWritable
        self.isCDROM = isCDROM
        self.isRemovable = isRemovable
        self.isDirectSafe = isDirectSafe
        self.discard = discard
    }

    /// Formats that `params` may name before a colon (libxl writes `aio:` or `raw:` for a raw file, `qcow2:` and others
    /// for QEMU).
    private static let rawFormats = ["aio", "raw", "file", "phy"]
    private static let otherFormats = ["qcow", "qcow2", "vhd", "vpc", "qed", "vdi"]

    /// Reads the settings in the backend's directory `path`.
    public static func read(from store: some StoreAccess, at path: String) throws(XenbusError) -> DiskSettings {
        var target = try store.requiredText("\(path)/params")
        if let colon = target.firstIndex(of: ":") {
            let format = String(target[..<colon])
            if rawFormats.contains(format) {
                target = String(target[target.index(after: colon)...])
            } else if otherFormats.contains(format) {
                throw .malformed(
                    MalformedNode(
                        "\(path)/params",
                        "asks for format \(format); serve the image with qemu-nbd or qemu-storage-daemon and give its NBD URI"
                    ))
            }
        }
        let discard = try store.text("\(path)/discard-enable").map { $0 != "0" }
        let mode = try store.requiredText("\(path)/mode")
        var settings = DiskSettings(
            target: target, isWritable: mode.contains("w"),
            isCDROM: try store.text("\(path)/device-type") == "cdrom", isRemovable: try store.flag("\(path)/removable"),
            isDirectSafe: try store.flag("\(path)/direct-io-safe"), discard: discard)
        settings.isShared = settings.isWritable && mode.contains("!")
        let delay: UInt64? = try store.number("\(path)/reconnect-delay", in: 0...UInt64(UInt32.max))
        settings.reconnectDelayMilliseconds = delay.map { $0 * 1000 }
        return settings
    }
}
