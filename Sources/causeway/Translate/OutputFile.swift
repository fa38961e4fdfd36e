// A file that a subcommand writes.

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
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { buffer in
                unsafe Glibc.write(descriptor.rawValue, buffer.baseAddress, buffer.count)
            }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw Failure("\(path): cannot be written: \(Errno.current)") }
            rest = rest.dropFirst(count)
        }
    }

    static func write(_ text: String, to path: String) throws(Failure) { try OutputFile(path).append(Array(text.utf8)) }
}
