// A loopback host within the tests' process, and domains on it through Xen's libraries.
//
// The libraries have one connection for each host and domain that the environment names, as a process has. So each
// "process" of a test has a name of its own for the host's directory, and its variables are set while a call may open a
// handle. A killed one's connection is shut down, as the kernel would.

import Foundation
import Hypervisor
import HypervisorRules
import Libxen
import LinuxSystem
import Loopback
import Synchronization
import TestSupport
import XenStoreServer
import XenTypes

/// The variables that a domain's process is started with.
struct ProcessVariables: Sendable {
    let values: [String: String]
    private static let lock = NSRecursiveLock()

    /// Runs `body` with them in the environment.
    func during<R: Sendable, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        Self.lock.lock()
        defer { Self.lock.unlock() }
        for (name, value) in values { setenv(name, value, 1) }
        return try body()
    }
}

/// One of a test's "processes".
struct LibxenProcess: Sendable {
    let hypervisor: LibxenHypervisor
    let variables: ProcessVariables
    /// The libraries' connection to the host.
    let socket: Int32
    /// What the kernel calls that.
    let name: String
}

/// The host and the names of its directory.
final class LoopbackPlace: Sendable {
    let host: LoopbackHost
    private let control: LoopbackControl
    private let scratch: TemporaryDirectory
    private let processes = Mutex<[Started]>([])

    private struct Started {
        weak var hypervisor: LibxenHypervisor?
        let variables: ProcessVariables
    }

    init(limits: HypervisorLimits, time: some TimeSource) throws {
        try Self.checkLibraries()
        scratch = try TemporaryDirectory()
        host = try LoopbackHost(runDirectory: "\(scratch.path)/run", limits: limits, time: time)
        try host.start()
        control = try LoopbackControl(runDirectory: "\(scratch.path)/run", time: .system)
        try identify(.zero)
    }

    deinit { host.stop() }

    /// A run that meant to be through the stand-ins and is not would be of no worth.
    private static func checkLibraries() throws {
        // To its end: a file of /proc has no size to be read by.
        let maps = try FileHandle(forReadingFrom: URL(fileURLWithPath: "/proc/self/maps")).readToEnd() ?? Data()
        guard String(decoding: maps, as: UTF8.self).contains("libcauseway-libxen.so") else {
            throw TimedOut("stand-ins; the libraries are Debian's own: LD_LIBRARY_PATH does not name the stand-ins")
        }
    }

    /// What a toolstack writes for a domain to know itself by.
    private func identify(_ domain: DomainID) throws {
        let store = try host.store.connectInProcess(domain: .zero)
        defer { store.close() }
        let path = "/local/domain/\(domain)/domid"
        guard try store.value(path) == nil else { return }
        try store.write(path, "\(domain)")
        try store.setPermissions(path, [.init(.none, .zero), .init(.read, domain)])
    }

    func process(of domain: DomainID, _ time: any TimeSource) throws -> LibxenProcess {
        try make(domain)
        try identify(domain)
        let name = "\(scratch.path)/p\(processes.withLock(\.count))"
        try FileManager.default.createSymbolicLink(atPath: name, withDestinationPath: "run")
        let variables = ProcessVariables(values: [
            "CAUSEWAY_RUN_DIR": name, "CAUSEWAY_DOMAIN": "\(domain)",
            "XENSTORED_PATH": LoopbackHost.storePath(in: name, domain: domain),
        ])
        return try variables.during { () throws in
            let before = connections()
            let hypervisor = try LibxenHypervisor(time: time)
            let new = connections().filter { before[$0.key] == nil }
            guard new.count == 1, let connection = new.first else { throw TimedOut("one new connection of \(domain): \(new)") }
            processes.withLock { $0.append(Started(hypervisor: hypervisor, variables: variables)) }
            return LibxenProcess(hypervisor: hypervisor, variables: variables, socket: connection.value, name: connection.key)
        }
    }

    private func make(_ domain: DomainID) throws {
        guard try !control.domains().contains(domain) else { return }
        let before = counters.connections
        _ = try control.createDomain(domain)
        // Its first socket is nobody's, and gone.
        guard eventually(3000, { counters.connections == before && counters.dying == 0 }) else { throw TimedOut("\(counters)") }
    }

    /// This process's sockets that lead to the host, by the kernel's names for them.
    private func connections() -> [String: Int32] {
        var found: [String: Int32] = [:]
        let path = LoopbackHost.socketPath(in: host.runDirectory)
        for text in (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? [] {
            guard let number = Int32(text), peerPath(number) == path, let name = socketName(number) else { continue }
            found[name] = number
        }
        return found
    }

    func kill(_ process: LibxenProcess) {
        // Of a host that is gone the number may be another's by now.
        guard socketName(process.socket) == process.name else { return }
        let before = counters.connections
        shutdown(process.socket, Int32(SHUT_RDWR))
        _ = eventually(10_000) { counters.connections < before && counters.dying == 0 }
    }

    func destroy(_ domain: DomainID) {
        do { try control.destroyDomain(domain) } catch { fatalError("destroying domain \(domain): \(error)") }
        host.store.domainDied(domain)
    }

    /// What is in use once every process has heard what it was told. The libraries have no thread that would listen:
    /// they do before a page is offered.
    var usage: HypervisorUsage {
        for started in processes.withLock({ $0 }) {
            guard let hypervisor = started.hypervisor else { continue }
            started.variables.during { _ = try? hypervisor.offerPages(1, to: hypervisor.domain, access: .readWrite).withdraw() }
        }
        var usage = counters
        (usage.grants, usage.runs, usage.pages) = (0, 0, 0)
        return usage
    }

    private var counters: HypervisorUsage {
        do { return try control.usage() } catch { fatalError("the host's counters: \(error)") }
    }
}

/// `socket:[4711]`; nil: not open, or not a socket.
private func socketName(_ descriptor: Int32) -> String? {
    let name = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(descriptor)")
    return name.flatMap { $0.hasPrefix("socket:") ? $0 : nil }
}

/// The path that the socket at the other end is bound to.
private func peerPath(_ descriptor: Int32) -> String? {
    var address = sockaddr_un()
    var length = socklen_t(MemoryLayout<sockaddr_un>.size)
    let answer = withUnsafeMutablePointer(to: &address) { place in
        place.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &length) }
    }
    guard answer == 0, address.sun_family == sa_family_t(AF_UNIX), length > 3 else { return nil }
    return withUnsafeBytes(of: address.sun_path) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}
