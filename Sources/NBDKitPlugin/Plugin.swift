// An nbdkit plugin: a frontend's disk as NBD, so that any NBD client can open it. nbdkit(1) speaks the protocol and makes the threads; this
// room turns its callbacks into calls of BlockDisk. All that is unsafe about C callbacks is in this file.

import BlockFrontend
import CNBDKit
import Glibc

/// nbdkit's entry: the plugin's description, made once. Called by name (`plugin_init`, nbdkit-plugin.h).
@c(plugin_init)
public func pluginInit() -> UnsafeMutablePointer<nbdkit_plugin>? {
    stayLoaded()
    let plugin = UnsafeMutablePointer<nbdkit_plugin>.allocate(capacity: 1)
    unsafe plugin.initialize(to: nbdkit_plugin())
    // What NBDKIT_REGISTER_PLUGIN fills in; the macro cannot be imported.
    unsafe plugin.pointee._struct_size = UInt64(MemoryLayout<nbdkit_plugin>.stride)
    unsafe plugin.pointee._api_version = NBDKIT_API_VERSION
    unsafe plugin.pointee._thread_model = NBDKIT_THREAD_MODEL_PARALLEL
    unsafe plugin.pointee.name = permanent("causeway")
    unsafe plugin.pointee.longname = permanent("Causeway: a paravirtual disk through its frontend")
    unsafe plugin.pointee.config_help = permanent(PluginParameters.help)
    unsafe plugin.pointee.errno_is_preserved = 1
    unsafe plugin.pointee.config = { key, value in
        guard let key = unsafe key, let value = unsafe value else { return -1 }
        let (name, text) = unsafe (String(cString: key), String(cString: value))
        guard let problem = DiskExport.set(name, text) else { return 0 }
        report("\(name)=\(text): \(problem)")
        return -1
    }
    unsafe plugin.pointee.config_complete = {
        guard let missing = DiskExport.missing else { return 0 }
        report(missing)
        return -1
    }
    // After nbdkit has forked, if it does: threads do not survive a fork.
    unsafe plugin.pointee.after_fork = {
        guard let problem = DiskExport.connect(log: { note($0) }) else { return 0 }
        report(problem)
        return -1
    }
    unsafe plugin.pointee.cleanup = { DiskExport.close() }
    // The disk is the process's; a connection needs a handle that is not null and nothing more.
    unsafe plugin.pointee.open = { _ in unsafe UnsafeMutableRawPointer(bitPattern: 1) }
    unsafe plugin.pointee.get_size = { _ in DiskExport.disk.map { Int64(clamping: $0.byteCount) } ?? failing(EIO) }
    unsafe plugin.pointee.block_size = { _, minimum, preferred, maximum in
        guard let disk = DiskExport.disk else { return failing(EIO) }
        unsafe minimum?.pointee = disk.properties.sectorSize
        unsafe preferred?.pointee = max(4096, disk.properties.physicalSectorSize)
        unsafe maximum?.pointee = 32 << 20
        return 0
    }
    unsafe plugin.pointee.can_write = { _ in DiskExport.disk.map { $0.properties.info.contains(.readOnly) ? 0 : 1 } ?? failing(EIO)
    }
    unsafe plugin.pointee.can_flush = { _ in 1 }
    // A flush that follows the write is all the protocol has; nbdkit sends it.
    unsafe plugin.pointee.can_fua = { _ in NBDKIT_FUA_EMULATE }
    unsafe plugin.pointee.can_trim = { _ in DiskExport.disk.map { $0.properties.discard == nil ? 0 : 1 } ?? failing(EIO) }
    // All queues lead to one disk, and a flush on any covers what has ended on all.
    unsafe plugin.pointee.can_multi_conn = { _ in 1 }
    unsafe plugin.pointee.pread = { _, buffer, count, offset, _ in
        guard let buffer = unsafe buffer, let disk = DiskExport.disk else { return failing(EIO) }
        // SAFETY: nbdkit lends `count` bytes for the call.
        var span = unsafe MutableRawSpan(_unsafeStart: buffer, byteCount: Int(count))
        do throws(BlockDiskError) { try disk.read(at: offset, into: &span) } catch { return failing(error) }
        return 0
    }
    unsafe plugin.pointee.pwrite = { _, buffer, count, offset, _ in
        guard let buffer = unsafe buffer, let disk = DiskExport.disk else { return failing(EIO) }
        // SAFETY: as for pread.
        let span = unsafe RawSpan(_unsafeStart: buffer, byteCount: Int(count))
        do throws(BlockDiskError) { try disk.write(at: offset, from: span) } catch { return failing(error) }
        return 0
    }
    unsafe plugin.pointee.flush = { _, _ in
        guard let disk = DiskExport.disk else { return failing(EIO) }
        do throws(BlockDiskError) { try disk.flush() } catch { return failing(error) }
        return 0
    }
    unsafe plugin.pointee.trim = { _, count, offset, _ in
        guard let disk = DiskExport.disk else { return failing(EIO) }
        do throws(BlockDiskError) { try disk.discard(at: offset, byteCount: UInt64(count), secure: false) } catch {
            return failing(error)
        }
        return 0
    }
    return unsafe plugin
}

/// A C string that lives as long as the process.
private func permanent(_ text: String) -> UnsafePointer<CChar>? { unsafe UnsafePointer(strdup(text)) }

/// nbdkit's own error channel: printed, and sent on to a client that can show it. `nbdkit_error` is variadic and cannot be imported.
private func report(_ text: String) {
    unsafe withVaList([]) { arguments in
        unsafe text.replacingPercents.withCString { unsafe nbdkit_verror($0, arguments) }
    }
}

/// A line about the connection: on stderr, as the command's own lines are.
private func note(_ text: String) {
    let line = Array("causeway: frontend: \(text)\n".utf8)
    _ = unsafe write(STDERR_FILENO, line, line.count)
}

extension String {
    /// Safe as a printf format.
    fileprivate var replacingPercents: String {
        self.split(separator: "%", omittingEmptySubsequences: false).joined(separator: "%%")
    }
}

/// Sets the client's error and returns what every callback returns on failure.
private func failing<N: SignedInteger>(_ number: Int32) -> N {
    nbdkit_set_error(number)
    return -1
}

private func failing<N: SignedInteger>(_ error: BlockDiskError) -> N {
    switch error {
    case .failed: return failing(EIO)
    case .unsupported: return failing(EOPNOTSUPP)
    case .lost: return failing(ESHUTDOWN)
    case .refused(.badRequest(let text)):
        report(text)
        return failing(EINVAL)
    case .refused: return failing(ESHUTDOWN)
    }
}
