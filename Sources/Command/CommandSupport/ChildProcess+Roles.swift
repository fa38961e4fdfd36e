// Programs and this command's other roles as child processes: these are named by their command line, and end with the
// process that started them.

import Glibc
import LinuxSystem

extension ChildProcess {
    /// Starts `arguments`; see `spawn`.
    package static func start(
        _ arguments: [String], adding variables: [String: String] = [:], ownGroup: Bool, output: Descriptor? = nil,
        isOurs: Bool = true, passing: Descriptor? = nil, program: String? = nil
    ) throws(Failure) -> ChildProcess {
        do throws(Errno) {
            return try spawn(
                arguments, adding: variables, ownGroup: ownGroup, output: output, isOurs: isOurs, passing: passing,
                program: program, time: .system)
        } catch {
            throw Failure("\(arguments.first ?? ""): cannot start it: \(error)")
        }
    }

    /// Starts what `Program.check` found in order; one that cannot be run all the same ends with 126.
    package static func startProgram(
        _ arguments: [String], adding variables: [String: String], ownGroup: Bool
    ) throws(Failure) -> ChildProcess {
        do throws(Errno) {
            return try spawn(arguments, adding: variables, ownGroup: ownGroup, isOurs: false, time: .system)
        } catch {
            // The file is there: it is the interpreter in its first line that is not.
            let hint = error == .noSuchFile ? " (the program that its first line names?)" : ""
            throw .cannotRun(arguments.first ?? "", "\(error)\(hint)", isThere: true)
        }
    }

    /// Starts `causeway ROLE…` on the host in `directory`; `passing` becomes its descriptor 3.
    /// - Parameter program: another build that is run in this one's place.
    package static func startRole(
        _ role: [String], in directory: RunDirectory, passing: Descriptor? = nil, program: String? = nil
    ) throws(Failure) -> ChildProcess {
        let common = ["--run-dir", directory.path, "--exit-with", "\(getpid())"]
        return try start([try Executable.path()] + role + common, ownGroup: true, passing: passing, program: program)
    }
}
