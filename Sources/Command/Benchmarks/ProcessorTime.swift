// What the kernel counts of processes.

import FoundationEssentials
import Glibc

/// How much of the processors a process has used, as its scheduler counts it.
enum ProcessorTime {
    /// Our siblings of these roles: the children of the pair that runs us.
    static func roles(_ roles: [String]) -> [Int32] {
        let parent = getppid()
        return children(of: parent).filter { roles.contains(commandWord(1, of: $0)) }
    }

    /// All threads, in nanoseconds.
    static func nanoseconds(of processes: [Int32]) -> UInt64 {
        var sum: UInt64 = 0
        for process in processes {
            for task in names("/proc/\(process)/task") {
                sum += UInt64(text("/proc/\(process)/task/\(task)/schedstat").split(separator: " ").first ?? "") ?? 0
            }
        }
        return sum
    }

    private static func children(of parent: Int32) -> [Int32] {
        names("/proc/\(parent)/task").flatMap { task in
            text("/proc/\(parent)/task/\(task)/children").split(separator: " ").compactMap { Int32($0) }
        }
    }

    private static func commandWord(_ index: Int, of process: Int32) -> String {
        let words = text("/proc/\(process)/cmdline").split(separator: "\0", omittingEmptySubsequences: false)
        return words.indices.contains(index) ? String(words[index]) : ""
    }

    private static func names(_ path: String) -> [String] { (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? [] }
    private static func text(_ path: String) -> String {
        FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }
}
