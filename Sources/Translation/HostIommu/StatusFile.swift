// What the kernel says of this process (`/proc/self/status`, proc(5)).

import LinuxSystem

struct StatusFile {
    /// Bytes that are locked (`mlock(2)`).
    var locked: UInt64 = 0
    /// Whether no limit binds what it locks (`CAP_IPC_LOCK`).
    var mayLockAll = false
    /// Whether the kernel tells it where its memory is (`CAP_SYS_ADMIN`).
    var mayAdminister = false

    static func read() -> StatusFile {
        var result = StatusFile()
        for line in (FileSystem.text(of: "/proc/self/status") ?? "").split(separator: "\n") {
            let words = line.split { $0 == " " || $0 == "\t" }
            guard words.count > 1 else { continue }
            // VmLck: is in KiB. Bit 14 is CAP_IPC_LOCK, bit 21 CAP_SYS_ADMIN.
            if words[0] == "VmLck:" { result.locked = (UInt64(words[1]) ?? 0) * 1024 }
            if words[0] == "CapEff:" {
                let capabilities = UInt64(words[1], radix: 16) ?? 0
                result.mayLockAll = capabilities >> 14 & 1 == 1
                result.mayAdminister = capabilities >> 21 & 1 == 1
            }
        }
        return result
    }
}
