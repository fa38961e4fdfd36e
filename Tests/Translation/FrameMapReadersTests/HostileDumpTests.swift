// Dumps that mean harm: they take bounded memory, and their text moves no cursor. Files of other formats are named as
// what they are.

import DumpWriter
import FrameMapReaders
import FrameMaps
import Glibc
import LinuxSystem
import TestSupport
import Testing

/// The most memory that this process has had, in bytes.
private func mostMemory() -> Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024
}

/// A dump whose table has these entries and whose pages are not in the file.
private func tableAlone(_ entries: [(pfn: UInt64, frame: UInt64)]) -> [UInt8] {
    var writer = DumpWriter(.paravirtual, [])
    writer.notedPages = UInt64(entries.count)
    var (bytes, layout) = writer.write()
    let table = UInt64(bytes.count)
    for entry in entries {
        bytes.append(number: entry.pfn)
        bytes.append(number: entry.frame)
    }
    bytes.put(UInt64(entries.count * 4096), at: layout.headers[".xen_pages", default: 0] + 32)
    bytes.put(table, at: layout.headers[".xen_p2m", default: 0] + 24)
    bytes.put(UInt64(entries.count * 16), at: layout.headers[".xen_p2m", default: 0] + 32)
    return bytes
}

/// Bytes that take up as much room as is said.
private struct WeighedSource: ByteSource {
    private let source: MemorySource
    let storedByteCount: UInt64
    var byteCount: UInt64 { source.byteCount }
    init(_ bytes: [UInt8], storedByteCount: UInt64) {
        source = MemorySource(bytes)
        self.storedByteCount = storedByteCount
    }
    func read(_ count: Int, at offset: UInt64) throws(Errno) -> [UInt8] { try source.read(count, at: offset) }
}

/// Frames of a machine, and how many were asked for.
private final class CountingMemory: MachineMemory {
    private let memory: FrameMemory
    private(set) var asked = 0
    init(_ frames: [UInt64: [UInt8]]) { memory = FrameMemory(frames: frames) }
    func contents(of wanted: [Mfn]) throws(Errno) -> [[UInt8]?] {
        asked += wanted.count
        return try memory.contents(of: wanted)
    }
}

@Suite("Dumps that mean harm", .timeLimit(.minutes(3)))
struct HostileDumpTests {
    /// 16 MiB of entries each of which would have tables of its own: 8 GiB of them before. Not under a sanitizer, whose
    /// own memory counts, too.
    @Test(
        "16 MiB of scattered entries: refused in bounded memory",
        .enabled(if: dlsym(nil, "__asan_init") == nil && dlsym(nil, "__tsan_init") == nil))
    func scatteredEntries() async {
        await #expect(processExitsWith: .success) {
            // Odd factors make permutations of 2^36 numbers.
            let bytes = tableAlone(
                (0..<1 << 20 as Range<UInt64>).map { ($0 &* 0x9E37_79B1 & 0xF_FFFF_FFFF, $0 &* 0x5851_F42D & 0xF_FFFF_FFFF) })
            let before = mostMemory()
            do throws(DumpError) {
                _ = try CoreDump(MemorySource(bytes))
                exit(2)
            } catch {
                guard error.cause == .tooLarge, error.description.contains("MiB of tables") else { exit(3) }
            }
            // Four times the file and 64 MiB of tables, and 128 bytes for each entry.
            exit(mostMemory() - before < 4 * bytes.count + 64 << 20 + 128 << 20 ? 0 : 4)
        }
    }

    @Test("what lies as far apart and is all there is read")
    func scatteredButThere() throws {
        let entries = (0..<6000 as Range<UInt64>).map { (pfn: $0 << 20, frame: $0 &* 0x5851_F42D & 0xF_FFFF_FFFF) }
        let bytes = tableAlone(entries)
        // The table alone is less than its pages, which are not read.
        let error = #expect(throws: DumpError.self) { _ = try CoreDump(WeighedSource(bytes, storedByteCount: UInt64(bytes.count))) }
        #expect(error?.cause == .tooLarge, "\(String(describing: error))")
        let dump = try CoreDump(WeighedSource(bytes, storedByteCount: 6000 * 4112))
        #expect(dump.table.usedCount == 6000)
        for entry in entries where entry.pfn % 7 == 0 {
            #expect(dump.table.translate(pfn(entry.pfn))?.frame.rawValue == entry.frame)
        }
    }

    @Test("a file's holes are no reason for more memory")
    func holes() throws {
        let file = TemporaryFile()
        file.write([UInt8](repeating: 1, count: 4096))
        ftruncate(file.descriptor, 1 << 40)
        let source = try FileSource(path: file.path)
        #expect(source.byteCount == 1 << 40 && source.storedByteCount < 1 << 20)
        #expect(MemorySource([1, 2, 3]).storedByteCount == 3)
    }

    @Test("a domain's own list that names one frame without end is copied once")
    func oneFrameForAll() throws {
        var info = SharedInfo([UInt8](repeating: 0, count: 4096), width: 8)
        (info.entryCount, info.frameListList) = (1 << 20, 1)
        // One list of lists, one list, one leaf, each at all places; its words are foreign frames far apart.
        var frames: [UInt64: [UInt8]] = [:]
        for (frame, word) in [(1, 2), (2, 3)] as [(UInt64, UInt64)] {
            var page: [UInt8] = []
            for _ in 0..<512 { page.append(number: word) }
            frames[frame] = page
        }
        var leaf: [UInt8] = []
        for index in 0..<512 as Range<UInt64> { leaf.append(number: 1 << 63 | (7 + index * 1000)) }
        frames[3] = leaf
        let memory = CountingMemory(frames)
        let table = try GuestTable(info, in: memory)
        // The lists, as often as they are named; the leaf, which stands in 2048 places, once.
        #expect(memory.asked == 1 + 4 + 1)
        let error = #expect(throws: GuestTableError.self) { _ = try table.snapshot() }
        #expect(error?.description.contains("runs of pages that are not the domain's own") == true, "\(String(describing: error))")
        #expect(throws: GuestTableError.self) { _ = try GuestTable(info, in: FrameMemory(frames: frames), mostPages: 0) }
    }

    @Test("text of a dump is printable")
    func text() throws {
        var (bytes, layout) = DumpWriter(.paravirtual, [(1, 10)]).write()
        // XEN_VERSION's extra field, behind two numbers: an escape sequence, a control beyond ASCII, quotes and a
        // backslash.
        let nasty: [UInt8] = [0x1B, 0x5B, 0x32, 0x4A, 0x9B, 0x0A, 0x5C, 0x22, 0x3C, 0x26, 0xC3, 0x28, 0]
        for (index, byte) in nasty.enumerated() { bytes[layout.notes[2] + 16 + 16 + index] = byte }
        let dump = try CoreDump(MemorySource(bytes))
        #expect(dump.header.xenVersion == #"4.17\x1b[2J\x9b\x0a\\"<&\xc3("#)
    }

    @Test(
        "other formats are named",
        arguments: [
            ("KDUMP   xxxxxxxxxxxx", "kdump-compressed vmcore"), ("makedumpfile\0\0\0\0xxxx", "flattened vmcore"),
            ("Xen saved domain, xl format\n \0 \r", "xl save"), ("LinuxGuestRecord", "xm save"),
            ("LibxlFmt\0\0\0\u{2}\0\0\0\0", "libxl"), ("QEVM\0\0\0\u{3}", "QEMU"), ("LibvirtQemudSave\u{2}", "libvirt"),
            ("EMiL\u{1}\0\0\0", "LiME"), ("AVML\u{2}\0\0\0", "AVML"), ("PAGEDU64", "Windows"), ("BZh91AY", "bzip2"),
        ])
    func otherFormats(_ start: String, _ name: String) {
        let error = #expect(throws: DumpError.self) { _ = try CoreDump(MemorySource(Array(start.utf8))) }
        #expect(error?.cause == .unsupported && error?.description.contains(name) == true, "\(String(describing: error))")
        #expect(error?.description.contains("xl dump-core") == true && error?.description.contains("\n") == false)
    }

    @Test(
        "streams and compressed files by their bytes",
        arguments: [
            ([UInt8](repeating: 0xFF, count: 8) + Array("XENF".utf8) + [0, 0, 0, 3], "libxc"), ([0x1F, 0x8B, 8, 0], "gzip"),
            ([0x28, 0xB5, 0x2F, 0xFD, 0], "zstd"),
        ] as [([UInt8], String)])
    func otherBytes(_ start: [UInt8], _ name: String) {
        let error = #expect(throws: DumpError.self) { _ = try CoreDump(MemorySource(start)) }
        #expect(error?.cause == .unsupported && error?.description.contains(name) == true, "\(String(describing: error))")
    }

    /// An ELF core with program headers that lead to notes, in both classes.
    @Test(
        "cores of QEMU, kernels and processes", arguments: [("QEMU", "virsh dump"), ("VMCOREINFO", "vmcore"), ("CORE", "process")],
        [true, false])
    func otherCores(_ owner: (String, String), _ wide: Bool) {
        var bytes: [UInt8] = [0x7F, 0x45, 0x4C, 0x46, wide ? 2 : 1, 1, 1] + [UInt8](repeating: 0, count: 9)
        for number in [4, wide ? 62 : 3] as [UInt16] { bytes.append(number: number) }
        bytes.append(number: 1 as UInt32)
        func long(_ number: UInt64) { if wide { bytes.append(number: number) } else { bytes.append(number: UInt32(number)) } }
        let header: UInt64 = wide ? 64 : 52, size: UInt64 = wide ? 56 : 32
        for number in [0, header, 0] { long(number) }
        bytes.append(number: 0 as UInt32)
        for number in [UInt16(header), UInt16(size), 2, 0, 0, 0] { bytes.append(number: number) }
        // A PT_LOAD first, then the notes: one of CORE's, as QEMU's have, and the owner's.
        var notes: [UInt8] = []
        for name in ["CORE", owner.0] {
            let text = Array(name.utf8) + [0]
            for number in [UInt32(text.count), 4, 1] { notes.append(number: number) }
            notes += text + [UInt8](repeating: 0, count: (4 - text.count % 4) % 4) + [1, 2, 3, 4]
        }
        let place = header + 2 * size
        for (type, offset, length) in [(1, 0, 0), (4, place, UInt64(notes.count))] as [(UInt32, UInt64, UInt64)] {
            bytes.append(number: type)
            if wide { bytes.append(number: 0 as UInt32) }
            for number in [offset, 0, 0, length, 0] { long(number) }
            if !wide { bytes.append(number: 0 as UInt32) }
            long(0)
        }
        let error = #expect(throws: DumpError.self) { _ = try CoreDump(MemorySource(bytes + notes)) }
        #expect(error?.cause == .unsupported && error?.description.contains(owner.1) == true, "\(String(describing: error))")
    }

    @Test("more sections than a header's fields can count", arguments: [3, 0xFEFF, 0xFF00, 70_000, 300_000], [true, false])
    func manySections(_ more: Int, _ wide: Bool) throws {
        var writer = DumpWriter(.paravirtual, [(1, 10), (2, 11)])
        writer.isClass64 = wide
        writer.extraHeaders = more
        let dump = try CoreDump(MemorySource(writer.write().bytes))
        #expect(dump.table.translate(pfn(2))?.frame.rawValue == 11 && dump.table.findings.count == 0)
        #expect(try dump.contents(of: pfn(2)) == writer.contents(1))
    }

    @Test("a shared page that is none is a domain without a table")
    func shortSharedPage() {
        for width in [4, 8, 0, -1, 100] {
            let info = SharedInfo([1, 2, 3], width: width)
            #expect(info.entryCount == 0 && info.entriesPerPage >= 512)
        }
    }

    /// As many program headers as the field can say, on top of each other, of notes that are as long as a number can
    /// say, and in them notes of 4 GiB: an error, and no more memory than the file has bytes.
    @Test("program headers without end", arguments: [true, false], [0, 1, 0xFFFF] as [UInt16])
    func programHeaders(_ wide: Bool, _ count: UInt16) throws {
        var writer = DumpWriter(.paravirtual, [(1, 10)])
        writer.isClass64 = wide
        let (dump, size) = (writer.write().bytes, wide ? 56 : 32)
        let ends: [UInt64] = [0, 1, 60, UInt64(dump.count) - 1, UInt64(dump.count), 1 << 32 - 1, 1 << 63, .max]
        for place in ends {
            for length in ends {
                var bytes = dump
                let table = UInt64(bytes.count)
                for _ in 0..<20 {
                    var header = [UInt8](repeating: 0xFF, count: size)
                    header.put(4 as UInt32, at: 0)
                    if wide {
                        header.put(place, at: 8)
                        header.put(length, at: 32)
                    } else {
                        header.put(UInt32(truncatingIfNeeded: place), at: 4)
                        header.put(UInt32(truncatingIfNeeded: length), at: 16)
                    }
                    bytes += header
                }
                for start in [table, 0, 1, .max, .max - 40] {
                    if wide { bytes.put(start, at: 32) } else { bytes.put(UInt32(truncatingIfNeeded: start), at: 28) }
                    bytes.put(count, at: wide ? 56 : 44)
                    // Notes that are none of those known leave it the dump that it is.
                    if let read = try? CoreDump(MemorySource(bytes)) { #expect(read.table.usedCount == 1) }
                }
            }
        }
    }

    @Test("lists that name themselves end", arguments: [4, 8])
    func loops(_ width: Int) throws {
        var info = SharedInfo([UInt8](repeating: 0, count: 4096), width: width)
        for count in [1, 512, 1 << 20, 1 << 30, .max] as [UInt64] {
            (info.entryCount, info.frameListList) = (count, 1)
            var page: [UInt8] = []
            for _ in 0..<512 { page.append(number: width == 8 ? 1 : 0x1_0000_0001 as UInt64) }
            let memory = CountingMemory([1: page])
            if let table = try? GuestTable(info, in: memory) { _ = try? table.snapshot() }
            #expect(memory.asked <= 1 << 12, "\(count): \(memory.asked) frames were asked for")
        }
    }
}
