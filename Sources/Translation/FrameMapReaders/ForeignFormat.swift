// What people hand to a reader of dumps that is none: named as what it is. Only the first bytes and the names of ELF's
// notes are looked at; the formats are those of QEMU, libvirt, makedumpfile (kdump), Xen's own streams, LiME and AVML.

enum ForeignFormat {
    /// By how a file begins.
    private static let starts: [(bytes: [UInt8], name: String)] = [
        (Array("KDUMP   ".utf8), "a kdump-compressed vmcore (makedumpfile, virsh dump --memory-only --format kdump-…)"),
        (Array("DISKDUMP".utf8), "a vmcore of diskdump"),
        (Array("makedumpfile\0".utf8), "a flattened vmcore (makedumpfile -F; makedumpfile -R puts it together)"),
        (Array("Xen saved domain".utf8), "a domain that xl save wrote"),
        (Array("LinuxGuestRecord".utf8), "a domain that xm save wrote"),
        (Array("LibxlFmt".utf8), "a migration stream of libxl"),
        ([UInt8](repeating: 0xFF, count: 8) + Array("XENF".utf8), "a migration stream of libxc (xl save, xl migrate)"),
        (Array("QEVM".utf8), "a machine's state that QEMU saved"),
        (Array("LibvirtQemud".utf8), "a machine that libvirt saved (virsh save, or virsh dump without --memory-only)"),
        (Array("EMiL".utf8), "an image that LiME took"), (Array("AVML".utf8), "an image that AVML took"),
        (Array("PAGEDU".utf8), "a crash dump of Windows"), (Array("QFI".utf8) + [0xFB], "a qcow2 disk image"),
        ([0x1F, 0x8B], "compressed with gzip; unpack it first"), (Array("BZh".utf8), "compressed with bzip2; unpack it first"),
        ([0xFD] + Array("7zXZ".utf8), "compressed with xz; unpack it first"),
        ([0x28, 0xB5, 0x2F, 0xFD], "compressed with zstd; unpack it first"),
        ([0x04, 0x22, 0x4D, 0x18], "compressed with lz4; unpack it first"),
    ]
    /// Bytes of a file that `name` needs.
    static let startSize = 16

    /// What a file that begins so is; nil if that is not known.
    static func name(_ start: [UInt8]) -> String? { starts.first { start.starts(with: $0.bytes) }?.name }

    /// Notes of ELF cores by their owners' names; of several the first in this list tells most.
    private static let owners: [(owner: String, name: String)] = [
        ("QEMU", "a core of QEMU's (virsh dump --memory-only, dump-guest-memory)"), ("VBCORE", "a core of VirtualBox's"),
        ("VMCOREINFO_XEN", "a vmcore of a Xen host (kdump)"), ("VMCOREINFO", "a vmcore (kdump)"),
        ("LINUX", "a core of a process"), ("CORE", "a core of a process"),
    ]
    /// Program headers looked at; notes come first.
    private static let mostHeaders = 16
    /// Bytes of notes looked at.
    private static let mostNotes: UInt64 = 1 << 20

    /// What an ELF core file is whose program headers lead to notes that tell; nil if it has none. Xen's dumps have no
    /// program headers.
    static func core(_ file: DumpBytes, _ header: [UInt8], _ wide: Bool) -> String? {
        let start = wide ? header.number64(32) : UInt64(header.number32(28))
        let size = wide ? 56 : 32
        let count = min(Int(header.number16(wide ? 56 : 44)), mostHeaders)
        guard count > 0, let table = try? file.read(size * count, at: start, "program headers") else { return nil }
        var seen: Set<String> = []
        for at in stride(from: 0, to: table.count, by: size) where table.number32(at) == 4 {
            let place = wide ? table.number64(at + 8) : UInt64(table.number32(at + 4))
            let length = min(wide ? table.number64(at + 32) : UInt64(table.number32(at + 16)), mostNotes)
            guard place <= file.byteCount else { continue }
            let there = Int(min(length, file.byteCount - place))
            if let notes = try? file.read(there, at: place, "notes") { addOwners(notes, &seen) }
        }
        return owners.first { seen.contains($0.owner) }?.name
    }

    private static func addOwners(_ notes: [UInt8], _ seen: inout Set<String>) {
        var place = 0
        while notes.count - place >= 12 {
            let (nameSize, size) = (Int(notes.number32(place)), Int(notes.number32(place + 4)))
            guard nameSize > 0, nameSize <= 64, nameSize <= notes.count - place - 12 else { return }
            seen.insert(notes.field(place + 12, nameSize))
            place += 12 + (nameSize + 3) & ~3 + (size + 3) & ~3
        }
    }
}
