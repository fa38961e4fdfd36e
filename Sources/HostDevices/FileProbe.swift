// Opening a path as a disk and finding out what it is like. Control plane: may block.

import CLinux
import Glibc
import LinuxSystem

/// A file as opened for I/O.
struct OpenedFile {
    var descriptor: Descriptor
    var isDirect: Bool
    var memoryAlignment: UInt32 = 512
    var offsetAlignment: UInt32 = 512

    /// Why requests of whole sectors could not be done directly, or nil.
    func alignmentProblem(sectorSize: UInt32) -> String? {
        offsetAlignment > sectorSize
            ? "it needs \(offsetAlignment)-byte blocks, and the disk's sectors have \(sectorSize) bytes" : nil
    }
}

struct FileProbe {
    let path: String

    /// Looks before opening: opening a fifo waits, and opening a tape winds it.
    func isBlockDevice() throws(DeviceError) -> Bool {
        var status = stat()
        if unsafe stat(path, &status) != 0 { throw .system(name: path, doing: "open", Errno.current) }
        switch status.st_mode & S_IFMT {
        case S_IFREG: return false
        case S_IFBLK: return true
        case S_IFDIR: throw .notADisk(path: path, kind: "a directory")
        case S_IFCHR: throw .notADisk(path: path, kind: "a character device")
        case S_IFIFO: throw .notADisk(path: path, kind: "a fifo")
        default: throw .notADisk(path: path, kind: "a special file")
        }
    }

    func open(readOnly: Bool, exclusive: Bool, direct: Bool) throws(DeviceError) -> OpenedFile {
        // A block device that is only read stays open to others, as with mount.
        let flags = (readOnly ? O_RDONLY : O_RDWR) | (exclusive && !readOnly ? O_EXCL : 0) | O_NOCTTY
        if direct, let descriptor = try? Descriptor.open(path, flags | causeway_o_direct()) {
            var file = OpenedFile(descriptor: descriptor, isDirect: true)
            var memory: UInt32 = 0
            var offset: UInt32 = 0
            // Without statx's answer: what every device before Linux 6.0 needed.
            if unsafe causeway_direct_alignment(descriptor.rawValue, &memory, &offset) == 0, memory > 0, offset > 0 {
                file.memoryAlignment = memory
                file.offsetAlignment = offset
            } else {
                file.memoryAlignment = 4096
                file.offsetAlignment = 4096
            }
            return file
        }
        do throws(Errno) {
            return OpenedFile(descriptor: try Descriptor.open(path, flags), isDirect: false)
        } catch {
            if error.rawValue == EBUSY {
                throw .busy(name: path, hint: "mounted, part of a volume, or opened exclusively by another process")
            }
            if error.rawValue == EROFS { throw .readOnly(name: path) }
            // A read-only block device refuses with EACCES, root or not.
            if error.rawValue == EACCES, !readOnly, isReadOnlyDevice() { throw .readOnly(name: path) }
            throw .system(name: path, doing: readOnly ? "open for reading" : "open for writing", error)
        }
    }

    private func isReadOnlyDevice() -> Bool {
        guard let descriptor = try? Descriptor.open(path, O_RDONLY | O_NONBLOCK) else { return false }
        var flag: Int32 = 0
        return unsafe causeway_block_read_only(descriptor.rawValue, &flag) == 0 && flag != 0
    }

    /// Goes on without O_DIRECT on the same open file, so that no lock or exclusive claim is given up in between.
    func dropDirect(_ file: inout OpenedFile) throws(DeviceError) {
        let flags = fcntl(file.descriptor.rawValue, F_GETFL)
        if flags < 0 || fcntl(file.descriptor.rawValue, F_SETFL, flags & ~causeway_o_direct()) < 0 {
            throw .system(name: path, doing: "clear O_DIRECT", Errno.current)
        }
        file.isDirect = false
    }

    /// Advisory, gone with the descriptor: a killed backend leaves nothing behind.
    func lock(_ descriptor: Descriptor, shared: Bool) throws(DeviceError) {
        if flock(descriptor.rawValue, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0 { return }
        let error = Errno.current
        if error.rawValue == EWOULDBLOCK {
            throw .busy(name: path, hint: shared ? "another process writes it" : "another process uses it")
        }
        // ENOLCK, ENOTSUP: a file system without locks.
    }

    func geometry(_ descriptor: Descriptor, readOnly: Bool, isBlockDevice: Bool) throws(DeviceError) -> BlockGeometry {
        var geometry = BlockGeometry(byteCount: 0, isReadOnly: readOnly, canFlush: !readOnly)
        do throws(Errno) {
            geometry.byteCount = try Self.byteCount(descriptor, isBlockDevice: isBlockDevice)
            if isBlockDevice {
                try Self.describeBlockDevice(descriptor, &geometry)
            } else {
                Self.describeFile(descriptor, &geometry)
            }
        } catch {
            throw .system(name: path, doing: "read its geometry", error)
        }
        let sector = UInt64(geometry.logicalSectorSize)
        if geometry.byteCount < sector { throw .empty(name: path, byteCount: geometry.byteCount) }
        geometry.byteCount = geometry.byteCount / sector * sector
        if geometry.isReadOnly && !readOnly { throw .readOnly(name: path) }
        return geometry
    }
}
