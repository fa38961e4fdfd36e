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
    var search = ProcessSearch.all

    /// Looks before opening: opening a fifo waits, and opening a tape winds it.
    func isBlockDevice() throws(DeviceError) -> Bool {
        let kind: FileKind
        do throws(Errno) { kind = try FileSystem.kind(of: path) } catch { throw .system(name: path, doing: "open", error) }
        guard kind == .regular || kind == .blockDevice else { throw .notADisk(path: path, kind: kind.words) }
        return kind == .blockDevice
    }

    func open(readOnly: Bool, exclusive: Bool, direct: Bool) throws(DeviceError) -> OpenedFile {
        // A block device that is only read stays open to others, as with mount.
        let flags = (readOnly ? O_RDONLY : O_RDWR) | (exclusive && !readOnly ? O_EXCL : 0) | O_NOCTTY
        if direct, let descriptor = try? Descriptor.open(path, flags | causeway_o_direct()) {
            // Without the kernel's answer: what every device before Linux 6.0 needed.
            let alignment = descriptor.directAlignment ?? (memory: 4096, offset: 4096)
            return OpenedFile(
                descriptor: descriptor, isDirect: true, memoryAlignment: alignment.memory, offsetAlignment: alignment.offset)
        }
        do throws(Errno) {
            return OpenedFile(descriptor: try Descriptor.open(path, flags), isDirect: false)
        } catch {
            if error == .busy { throw .busy(name: path, by: exclusiveHolder(), writing: !readOnly) }
            if error.rawValue == EROFS { throw .readOnly(name: path) }
            // A read-only block device refuses with EACCES, root or not.
            if error.rawValue == EACCES, !readOnly, isReadOnlyDevice() { throw .readOnly(name: path) }
            throw .system(name: path, doing: readOnly ? "open for reading" : "open for writing", error)
        }
    }

    private func isReadOnlyDevice() -> Bool {
        guard let descriptor = try? Descriptor.open(path, O_RDONLY | O_NONBLOCK) else { return false }
        return descriptor.isReadOnlyBlockDevice
    }

    /// Goes on without O_DIRECT on the same open file, so that no lock or exclusive claim is given up in between.
    func dropDirect(_ file: inout OpenedFile) throws(DeviceError) {
        let flags = fcntl(file.descriptor.rawValue, F_GETFL)
        if flags < 0 || fcntl(file.descriptor.rawValue, F_SETFL, flags & ~causeway_o_direct()) < 0 {
            throw .system(name: path, doing: "clear O_DIRECT", Errno.current)
        }
        file.isDirect = false
    }

    /// Locks the open disk against others, unless it is to be shared, and makes sure that nobody has its bytes.
    func claim(_ file: Descriptor, readOnly: Bool, isBlockDevice: Bool, _ sharing: DeviceSharing) throws(DeviceError) -> ImageClaim
    {
        let isShared = sharing == .shared
        var users = DiskUsers(writes: !readOnly, search)
        let claim: ImageClaim
        do throws(ImageClaim.Taken) {
            claim = try ImageClaim(file, writes: !readOnly, isBlockDevice: isBlockDevice, isShared: isShared)
        } catch {
            let process = users.process(on: DiskPlace(error.file))
            throw .busy(name: path, by: DiskHolder(thing: path, use: .locked(by: process)), writing: !readOnly)
        }
        if isShared { return claim }
        if let holder = users.holder(of: file, path) { throw .busy(name: path, by: holder, writing: !readOnly) }
        return claim
    }

    /// Who has the block device to whom the kernel has promised it.
    private func exclusiveHolder() -> DiskHolder {
        var users = DiskUsers(writes: true, search)
        let status = try? FileSystem.status(of: path)
        let holder = status.flatMap { DeviceHalves(blockDevice: $0) }.flatMap { users.holder(of: $0, path) }
        if let holder { return holder }
        let process = status.flatMap { users.process(on: DiskPlace($0)) }
        return DiskHolder(thing: path, use: process.map { .locked(by: $0) } ?? .exclusive)
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
        geometry.writesDurably = geometry.canFlush
        let sector = UInt64(geometry.logicalSectorSize)
        if geometry.byteCount < sector { throw .empty(name: path, byteCount: geometry.byteCount) }
        if geometry.byteCount % sector != 0 {
            throw .partSector(name: path, byteCount: geometry.byteCount, sector: sector)
        }
        if geometry.isReadOnly && !readOnly { throw .readOnly(name: path) }
        return geometry
    }
}
