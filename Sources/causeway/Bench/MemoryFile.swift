// A file in memory to measure on: written once, so that no read finds a hole.

import FoundationEssentials
import Glibc

struct MemoryFile {
    let path: String

    init(megabytes: Int) throws(Failure) {
        let base = unsafe access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"
        path = "\(base)/causeway-bench.\(getpid())"
        let chunk = (0..<1 << 20).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 16) }
        let raw = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard raw >= 0 else { throw Failure("\(path): \(systemMessage(errno))") }
        defer { close(raw) }
        for _ in 0..<megabytes {
            let count = unsafe chunk.withUnsafeBytes { unsafe Glibc.write(raw, $0.baseAddress, $0.count) }
            guard count == chunk.count else {
                let reason = systemMessage(errno)
                remove()
                throw Failure("\(path): \(reason)")
            }
        }
    }

    func remove() { UnixSocket.remove(path) }
}
