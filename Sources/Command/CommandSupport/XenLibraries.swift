// Where Causeway's stand-in for four of Xen's libraries is: one file, and beside it a directory with the four names.

import FoundationEssentials

package enum XenLibraries {
    /// The names that programs ask for.
    package static let names = ["libxengnttab.so.1", "libxenevtchn.so.1", "libxenforeignmemory.so.1", "libxencall.so.1"]
    private static let file = "libcauseway-libxen.so"

    /// A directory that has the four names, for LD_LIBRARY_PATH. In a build directory it is made at the first call.
    package static func directory() throws(Failure) -> String {
        let own = "/" + (try Executable.path().split(separator: "/").dropLast().joined(separator: "/"))
        let files = FileManager.default
        let installed = "\(own)/../lib/causeway/libxen"
        if isComplete(installed) { return installed }
        let beside = "\(own)/libxen"
        if isComplete(beside) { return beside }
        guard files.fileExists(atPath: "\(own)/\(file)") else {
            throw Failure("xen-run: neither \(installed) nor \(own)/\(file) is there; build or install all of causeway")
        }
        do {
            try files.createDirectory(atPath: beside, withIntermediateDirectories: true)
            for name in names where !files.fileExists(atPath: "\(beside)/\(name)") {
                // Left by a build whose file is gone, or by another process at this moment.
                try? files.removeItem(atPath: "\(beside)/\(name)")
                try? files.createSymbolicLink(atPath: "\(beside)/\(name)", withDestinationPath: "../\(file)")
            }
        } catch { throw Failure("xen-run: \(beside): \(error)") }
        guard isComplete(beside) else { throw Failure("xen-run: \(beside): the libraries' names cannot be made there") }
        return beside
    }

    private static func isComplete(_ directory: String) -> Bool {
        names.allSatisfy { FileManager.default.fileExists(atPath: "\(directory)/\($0)") }
    }
}
