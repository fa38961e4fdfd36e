// A program's output as text.

import Glibc
import LinuxSystem

enum Capture {
    /// Runs `arguments` and returns what it wrote to stdout; its stderr is ours.
    static func run(_ arguments: [String]) throws(Failure) -> String {
        var ends: (Int32, Int32) = (-1, -1)
        let result = unsafe withUnsafeMutableBytes(of: &ends) { bytes in
            guard let start = unsafe bytes.bindMemory(to: Int32.self).baseAddress else { return Int32(-1) }
            return unsafe pipe(start)
        }
        guard result == 0 else { throw Failure("pipe: \(systemMessage(errno))") }
        let reader = Descriptor(owning: ends.0)
        var writer: Descriptor? = Descriptor(owning: ends.1)
        _ = fcntl(reader.rawValue, F_SETFD, FD_CLOEXEC)
        let child = try ChildProcess.start(arguments, ownGroup: true, output: writer?.rawValue)
        // The child's copy must be the last one, or the end of its output would never be seen.
        writer = nil
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = unsafe buffer.withUnsafeMutableBytes { unsafe read(reader.rawValue, $0.baseAddress, $0.count) }
            if count > 0 { text += buffer[..<count] } else if count == 0 || errno != EINTR { break }
        }
        let status = child.wait()
        guard status == .exited(0) else { throw Failure("\(arguments.first ?? ""): \(status)") }
        return String(decoding: text, as: UTF8.self)
    }
}
