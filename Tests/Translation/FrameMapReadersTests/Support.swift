import TestSupport
import DumpWriter
import FrameMapReaders
import FrameMaps
import Glibc
import LinuxSystem

/// Frames of a machine by number: what a running domain's memory is to its reader.
struct FrameMemory: MachineMemory {
    var frames: [UInt64: [UInt8]]
    func contents(of wanted: [Mfn]) throws(Errno) -> [[UInt8]?] { wanted.map { frames[$0.rawValue] } }
}

/// A dump in memory of which a part may not be touched: a read of it ends the process, as a read of a page that is not
/// there would.
final class ForbiddenSource: ByteSource, @unchecked Sendable {
    let byteCount: UInt64
    private let base: UnsafeMutableRawPointer
    private let mapped: Int

    /// `forbidden` begins and ends at page boundaries.
    init(_ bytes: [UInt8], forbidden: Range<Int>) throws {
        mapped = (bytes.count + 4095) & ~4095
        byteCount = UInt64(bytes.count)
        guard let base = mmap(nil, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), base != MAP_FAILED else {
            throw Errno.current
        }
        self.base = base
        bytes.withUnsafeBytes { UnsafeMutableRawBufferPointer(start: base, count: bytes.count).copyMemory(from: $0) }
        if mprotect(base + forbidden.lowerBound, forbidden.count, PROT_NONE) != 0 { throw Errno.current }
    }
    deinit { munmap(base, mapped) }

    func read(_ count: Int, at offset: UInt64) throws(Errno) -> [UInt8] {
        let start = Int(min(offset, byteCount))
        return Array(UnsafeRawBufferPointer(start: base + start, count: min(count, Int(byteCount) - start)))
    }
}

/// A file that is gone with the test.
final class TemporaryFile {
    let path: String
    let descriptor: Int32
    init() {
        var template = Array("/tmp/cw-dump-XXXXXX".utf8CString)
        descriptor = mkstemp(&template)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    deinit {
        close(descriptor)
        unlink(path)
    }
    func write(_ bytes: [UInt8], at offset: UInt64 = 0) {
        var done = 0
        while done < bytes.count {
            let step = Array(bytes[done...]).withUnsafeBytes {
                pwrite(descriptor, $0.baseAddress, $0.count, off_t(offset) + off_t(done))
            }
            if step <= 0 { return }
            done += step
        }
    }
}

/// Runs of pfns with scattered frames: what a domain's memory looks like.
func scatteredEntries(_ count: Int, random: inout SplitMix) -> [(pfn: UInt64, frame: UInt64)] {
    var free = Array(stride(from: 64 as UInt64, to: UInt64(count) * 4 + 64, by: 8)).shuffled(using: &random)
    var entries: [(pfn: UInt64, frame: UInt64)] = []
    var next: UInt64 = 0
    while entries.count < count, let frame = free.popLast() {
        // Up to 8 pages that stay together, and now and then a hole.
        if UInt64.random(in: 0..<5, using: &random) == 0 { next += UInt64.random(in: 1...40, using: &random) }
        for step in 0..<min(UInt64.random(in: 1...8, using: &random), UInt64(count - entries.count)) {
            entries.append((next, frame + step))
            next += 1
        }
    }
    return entries
}
