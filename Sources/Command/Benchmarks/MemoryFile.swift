// A file in memory to measure on: written once, so that no read finds a hole.

import CommandSupport
import Glibc
import LinuxSystem

struct MemoryFile {
    let path: String

    init(megabytes: Int) throws(Failure) {
        let base = FileSystem.isWritable("/dev/shm") ? "/dev/shm" : "/tmp"
        Self.sweep(base)
        let path = "\(base)/causeway-bench.\(getpid())"
        self.path = path
        let chunk = (0..<1 << 20).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 16) }
        let file: Descriptor
        file = try EarlyEnd.undoing({ FileSystem.remove(path) }) { () throws(Failure) -> Descriptor in
            do throws(Errno) { return try Descriptor.open(path, O_WRONLY | O_CREAT | O_EXCL) } catch {
                throw Failure("\(path): \(error)")
            }
        }
        do throws(Errno) { for _ in 0..<megabytes { try file.writeAll(chunk) } } catch {
            remove()
            throw Failure("\(path): \(error)")
        }
    }

    /// Removes what benchmarks left that were killed.
    private static func sweep(_ base: String) {
        for name in FileSystem.names(in: base) where name.hasPrefix("causeway-bench.") {
            guard let process = Int32(name.dropFirst("causeway-bench.".count)), !FileSystem.exists("/proc/\(process)"),
                FileSystem.isOld("\(base)/\(name)", seconds: 60, by: SystemTime())
            else { continue }
            FileSystem.remove("\(base)/\(name)")
        }
    }

    func remove() { FileSystem.remove(path) }
}
