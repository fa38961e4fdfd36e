// A file that a subcommand writes, from its start to its end.

import CommandSupport
import Glibc
import LinuxSystem

struct OutputFile {
    private let path: String
    private let descriptor: Descriptor

    /// Creates `path`, or empties it.
    init(_ path: String) throws(Failure) {
        self.path = path
        do { descriptor = try Descriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644) } catch {
            throw Failure("\(path): cannot be written: \(error)")
        }
    }

    func append(_ bytes: [UInt8]) throws(Failure) {
        do throws(Errno) { try descriptor.writeAll(bytes) } catch { throw Failure("\(path): cannot be written: \(error)") }
    }

    /// Leaves `byteCount` bytes of zeros; a hole, where the file can have one.
    func skip(_ byteCount: UInt64) throws(Failure) {
        let end = lseek(descriptor.rawValue, off_t(clamping: byteCount), SEEK_CUR)
        // The hole counts also at the file's end.
        if end >= 0, ftruncate(descriptor.rawValue, end) == 0 { return }
        if end >= 0 { throw Failure("\(path): cannot be made \(end) bytes long: \(Errno.current)") }
        // A pipe, or a terminal.
        let page = [UInt8](repeating: 0, count: 4096)
        for _ in 0..<byteCount / 4096 { try append(page) }
    }

    static func write(_ text: String, to path: String) throws(Failure) { try OutputFile(path).append(Array(text.utf8)) }
}
