// Where this command's own files are: itself, to start its other roles, and the nbdkit plugin beside it.

import FoundationEssentials

enum Executable {
    /// This program's path.
    static func path() throws(Failure) -> String {
        do { return try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") } catch {
            throw Failure("/proc/self/exe: \(error)")
        }
    }

    /// The frontend's nbdkit plugin: beside the command in a build directory, in `../lib/causeway` once installed.
    static func plugin() throws(Failure) -> String {
        let directory = try path().split(separator: "/").dropLast().joined(separator: "/")
        let places = ["/\(directory)/libCausewayNBD.so", "/\(directory)/../lib/causeway/libCausewayNBD.so"]
        for place in places where FileManager.default.fileExists(atPath: place) { return place }
        throw Failure(
            "frontend: the nbdkit plugin is in neither of \(places.joined(separator: ", ")); build or install all of causeway"
        )
    }
}
