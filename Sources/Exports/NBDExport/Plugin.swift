// An nbdkit plugin: a frontend's disk as NBD, so that any NBD client can open it. nbdkit(1) speaks the protocol and
// makes the threads; CNBDKit has its callbacks, which call the functions here, and these BlockDisk. Each answers 0 or
// more, or a negative errno.

import BlockFrontend
import CLinux
import CNBDKit
import Glibc
import LinuxSystem

/// Called once, when nbdkit has loaded the plugin.
@c @implementation
public func causeway_nbd_prepare() { causeway_nbd_set_help(PluginParameters.help) }

// MARK: Parameters, then the connection, then its end

/// One parameter of the command line.
@c @implementation
public func causeway_nbd_config(_ key: causeway_lent_bytes, _ value: causeway_lent_bytes) -> Int32 {
    let (name, text) = (key.text, value.text)
    guard let problem = DiskExport.set(name, text) else { return 0 }
    causeway_nbd_report("\(name)=\(text): \(problem)")
    return -EINVAL
}

/// Whether all parameters are there that must be.
@c @implementation
public func causeway_nbd_config_complete() -> Int32 {
    guard let missing = DiskExport.missing else { return 0 }
    causeway_nbd_report(missing)
    return -EINVAL
}

/// Connects to the disk: after nbdkit has forked, if it does.
@c @implementation
public func causeway_nbd_begin() -> Int32 {
    // Without its disk nbdkit has nothing to serve: it closes its connections and ends.
    guard let problem = DiskExport.connect(log: { note($0) }, ended: { causeway_nbd_shut_down() }) else { return 0 }
    causeway_nbd_report(problem)
    return -EIO
}

/// Closes the disk in good order.
@c @implementation
public func causeway_nbd_end() { DiskExport.close() }

/// The process's exit status: nbdkit itself would end with success.
@c @implementation
public func causeway_nbd_status() -> Int32 { DiskExport.isLost ? 1 : 0 }

/// A line about the connection: on stderr, as the command's own lines are.
private func note(_ text: String) {
    StandardError.write("causeway: frontend: \(text)")
}

// MARK: What a client is told of the disk

/// A client has connected.
@c @implementation
public func causeway_nbd_open() { DiskExport.disk?.beginUse() }

/// A client has gone.
@c @implementation
public func causeway_nbd_close() { DiskExport.disk?.endUse() }

/// The disk's size, bytes.
@c @implementation
public func causeway_nbd_byte_count() -> Int64 { DiskExport.disk.map { Int64(clamping: $0.byteCount) } ?? -Int64(EIO) }

/// The blocks that clients should use, bytes.
@c @implementation
public func causeway_nbd_sizes() -> causeway_nbd_block_sizes {
    guard let disk = DiskExport.disk else { return causeway_nbd_block_sizes(error: -EIO, minimum: 0, preferred: 0, maximum: 0) }
    let properties = disk.properties
    return causeway_nbd_block_sizes(
        error: 0, minimum: properties.sectorSize, preferred: max(4096, properties.physicalSectorSize), maximum: 32 << 20)
}

/// 1 if the disk can be written.
@c @implementation
public func causeway_nbd_can_write() -> Int32 {
    DiskExport.disk.map { $0.properties.info.contains(.readOnly) ? 0 : 1 } ?? -EIO
}

/// 1 if the disk can discard.
@c @implementation
public func causeway_nbd_can_trim() -> Int32 { DiskExport.disk.map { $0.properties.discard == nil ? 0 : 1 } ?? -EIO }

// MARK: What a client may do with it

/// Reads the disk's bytes from `offset` on into all of `into`.
@c @implementation
public func causeway_nbd_read(_ into: causeway_lent_bytes, _ offset: UInt64) -> Int32 {
    guard let disk = DiskExport.disk else { return -EIO }
    do throws(BlockDiskError) {
        try into.fill { span throws(BlockDiskError) in try disk.read(at: offset, into: &span) }
    } catch { return failing(error) }
    return 0
}

/// Writes all of `from` to the disk from `offset` on.
@c @implementation
public func causeway_nbd_write(_ from: causeway_lent_bytes, _ offset: UInt64) -> Int32 {
    guard let disk = DiskExport.disk else { return -EIO }
    do throws(BlockDiskError) {
        try from.look { span throws(BlockDiskError) in try disk.write(at: offset, from: span) }
    } catch { return failing(error) }
    return 0
}

/// Makes durable what was written.
@c @implementation
public func causeway_nbd_flush() -> Int32 {
    guard let disk = DiskExport.disk else { return -EIO }
    do throws(BlockDiskError) { try disk.flush() } catch { return failing(error) }
    return 0
}

/// Discards `count` bytes from `offset` on.
@c @implementation
public func causeway_nbd_trim(_ offset: UInt64, _ count: UInt32) -> Int32 {
    guard let disk = DiskExport.disk else { return -EIO }
    do throws(BlockDiskError) { try disk.discard(at: offset, byteCount: UInt64(count), secure: false) } catch {
        return failing(error)
    }
    return 0
}

/// What the client is told.
private func failing(_ error: BlockDiskError) -> Int32 {
    switch error {
    case .failed: return -EIO
    case .unsupported: return -EOPNOTSUPP
    case .lost: return -ESHUTDOWN
    case .refused(.badRequest(let text)):
        causeway_nbd_report(text)
        return -EINVAL
    case .refused: return -ESHUTDOWN
    }
}
