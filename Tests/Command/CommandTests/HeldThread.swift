import Foundation
import TestSupport
import Testing

/// A thread of another process that stands still, by ptrace(2), while all its others go on; until this is ended.
final class HeldThread {
    private let holder: RunningProcess

    /// Holds the first thread that is called so.
    init(_ name: String, of process: Int32, in scratch: Scratch) throws {
        let tasks = "/proc/\(process)/task"
        let thread = try FileManager.default.contentsOfDirectory(atPath: tasks).first { task in
            (try? String(contentsOfFile: "\(tasks)/\(task)/comm", encoding: .utf8)) == "\(name)\n"
        }
        holder = try RunningProcess(["python3", "-u", "-c", Self.holds, try #require(thread, "no thread \(name)")], in: scratch)
        try #require(eventually(10_000) { holder.output.contains("held") }, "\(holder.errors)")
    }

    /// Its tracer's end lets it go on.
    func end() { kill(holder.pid, SIGKILL) }

    deinit { end() }

    /// Holds the thread that it is told of, until it is killed (PTRACE_SEIZE, PTRACE_INTERRUPT).
    private static let holds = """
        import ctypes, sys, time
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_long] * 4
        thread = int(sys.argv[1])
        for request in (0x4206, 0x4207):
            if libc.ptrace(request, thread, 0, 0) != 0: sys.exit("ptrace: errno %d" % ctypes.get_errno())
        print("held")
        time.sleep(60)
        """
}
