// Files that the kernel writes as they are read: without a size, and in short pieces. Foundation takes the first short piece for the end.

import Glibc
import LinuxSystem

enum ProcessFile {
    /// The whole of a file in /proc or /sys, bytes that are no UTF-8 replaced; nil if it cannot be read.
    static func read(_ path: String) -> String? {
        guard let file = try? Descriptor.open(path, O_RDONLY) else { return nil }
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = unsafe buffer.withUnsafeMutableBytes {
                unsafe Glibc.read(file.rawValue, $0.baseAddress, $0.count)
            }
            if count > 0 {
                text += buffer[..<count]
            } else if count == 0 {
                return String(decoding: text, as: UTF8.self)
            } else if errno != EINTR {
                return nil
            }
        }
    }
}
