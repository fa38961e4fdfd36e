// A network namespace that has no name, or whose name nobody told: which one it is, where it is found again, and things
// done in it without going there.

import CLinux
import Glibc

/// A network namespace by an open file of it, which keeps it from ending: to be let go soon.
package struct NamespaceFile: Sendable {
    private let file: Descriptor
    /// The kernel's number for it, which it has as long as it is there (the inode of `/proc/PID/ns/net`).
    package let number: UInt64

    /// The namespace that `file` is of; nil if it cannot be looked at.
    package init?(_ file: Descriptor) {
        guard let status = try? file.status() else { return nil }
        self.file = file
        number = UInt64(status.st_ino)
    }

    /// The number of the calling thread's own.
    package static var own: UInt64? { number(of: "/proc/thread-self/ns/net") }

    private static func number(of path: String) -> UInt64? {
        (try? FileSystem.status(of: path)).map { UInt64($0.st_ino) }
    }

    /// Where namespaces are found: files that name them, and processes that are in them.
    private static var paths: [String] {
        ["/run/netns", "/run/docker/netns"].flatMap { directory in FileSystem.names(in: directory).map { "\(directory)/\($0)" } }
            + FileSystem.names(in: "/proc").filter { Int32($0) != nil }.map { "/proc/\($0)/ns/net" }
    }

    /// The namespace that `path` leads to, if it has this number.
    private static func open(_ path: String, _ number: UInt64) -> NamespaceFile? {
        guard let file = try? Descriptor.open(path, O_RDONLY), let found = NamespaceFile(file), found.number == number else {
            return nil
        }
        return found
    }

    /// The namespace with this number, if a process is in it or a file names it.
    package static func find(_ number: UInt64) -> NamespaceFile? {
        // What a path leads to may change between the two looks.
        paths.lazy.filter { self.number(of: $0) == number }.compactMap { open($0, number) }.first
    }

    /// Looks at every namespace that can be found but the calling thread's own, one after the other: the first for
    /// which `body` returns something.
    package static func first<R>(_ body: (NamespaceFile) -> R?) -> R? {
        var seen: Set<UInt64> = own.map { [$0] } ?? []
        for path in paths {
            guard let number = number(of: path), seen.insert(number).inserted, let place = open(path, number) else { continue }
            if let result = body(place) { return result }
        }
        return nil
    }

    /// What `body` returns, on a thread that is in the namespace.
    package func run<R: Sendable>(_ body: @escaping @Sendable () -> R) throws(NamespaceError) -> R {
        let outcome = Monitor<Result<R, NamespaceError>?>(nil)
        let file = file
        do throws(Errno) {
            try WorkerThread(name: "netns") {
                let result: Result<R, NamespaceError>
                do throws(Errno) {
                    try retryingInterrupts { causeway_enter_network_namespace(file.rawValue) }
                    result = .success(body())
                } catch { result = .failure(.cannotEnter(error)) }
                outcome.change { $0 = result }
            }.join()
        } catch { throw .cannotEnter(error) }
        // The thread has ended: it is there.
        return try outcome.change { $0 ?? .failure(.cannotEnter(.noSuchDevice)) }.get()
    }
}
