import Foundation
import LinuxSystem

/// A directory of the test's own, removed with it.
public final class TemporaryDirectory: Sendable {
    /// Where it is.
    public let path: String

    /// A new directory in `parent`.
    public init(in parent: String = NSTemporaryDirectory()) throws {
        path = (parent as NSString).appendingPathComponent("causeway-test-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// A sparse file of `byteCount` bytes.
    public func file(_ name: String = "disk.img", byteCount: UInt64) throws -> String {
        let path = self.path + "/" + name
        let descriptor = try Descriptor.open(path, O_RDWR | O_CREAT, mode: 0o600)
        guard ftruncate(descriptor.rawValue, off_t(byteCount)) == 0 else { throw Errno.current }
        return path
    }
}
