// This command's other roles as child processes: named by their command line, ending with the process that started them.

import Glibc

extension ChildProcess {
    /// Starts `causeway ROLE…` on the host in `directory`.
    static func startRole(_ role: [String], in directory: RunDirectory) throws(Failure) -> ChildProcess {
        let common = ["--run-dir", directory.path, "--exit-with", "\(getpid())"]
        return try start([try Executable.path()] + role + common, ownGroup: true)
    }
}
