// Where this command's own files are: itself, to start its other roles, and the nbdkit plugin beside it.

import LinuxSystem

package enum Executable {
    /// This program's path.
    package static func path() throws(Failure) -> String {
        do throws(Errno) { return try FileSystem.resolved("/proc/self/exe") } catch {
            throw Failure("cannot find this program's own file (/proc/self/exe: \(error)); was it replaced while it ran?")
        }
    }

    /// The frontend's nbdkit plugin: beside the command in a build directory, in `../lib/causeway` once installed.
    package static func plugin() throws(Failure) -> String {
        let directory = try path().split(separator: "/").dropLast().joined(separator: "/")
        let places = ["/\(directory)/libCausewayNBD.so", "/\(directory)/../lib/causeway/libCausewayNBD.so"]
        for place in places where FileSystem.exists(place) { return place }
        throw Failure(
            "frontend: the nbdkit plugin is in neither of \(places.joined(separator: ", ")); build or install all of causeway"
        )
    }
}
