// The exported disk: one for the process, made when nbdkit is ready to serve, used by all its connections and threads.

import BlockFrontend
import BlockProtocol
import Confinement
import Hypervisor
import Libxen
import LinuxSystem
import Loopback
import Synchronization
import XenTypes

/// A connected disk, whichever hypervisor it stands on: asked once a callback, never once a segment.
protocol ExportedDisk: Sendable {
    var byteCount: UInt64 { get }
    var properties: BlockProperties { get }
    func read(at offset: UInt64, into destination: inout MutableRawSpan) throws(BlockDiskError)
    func write(at offset: UInt64, from source: RawSpan) throws(BlockDiskError)
    func flush() throws(BlockDiskError)
    func discard(at offset: UInt64, byteCount: UInt64, secure: Bool) throws(BlockDiskError)
    func beginUse()
    func endUse()
    func close()
}

extension BlockDisk: ExportedDisk {
    func beginUse() { frontend.beginUse() }
    func endUse() { frontend.endUse() }
}

/// What nbdkit's callbacks work on.
enum DiskExport {
    private struct State {
        var parameters = PluginParameters()
        var disk: (any ExportedDisk)?
        /// Why there is nothing more to serve.
        var end: BlockFrontendError?
        /// Held for as long as this process serves.
        var claim: FileClaim?
    }

    /// In an object, for Swift 6.3's optimizer leaves a global `Mutex` of a struct zeroed instead of initialized (seen
    /// in a release build: every default of the parameters was 0).
    private final class Storage: Sendable { let state = Mutex(State()) }
    private static let storage = Storage()

    /// Takes one parameter; returns what is wrong with it.
    static func set(_ key: String, _ value: String) -> String? {
        storage.state.withLock { $0.parameters.set(key, value) }
    }

    /// What is missing of the parameters.
    static var missing: String? {
        storage.state.withLock {
            $0.parameters.device == nil
                ? "vdev= is missing"
                : $0.parameters.runDirectory == nil && !$0.parameters.isOnXen ? "run-dir= is missing" : nil
        }
    }

    /// Connects to the disk; returns what went wrong.
    /// - Parameter ended: is told when the disk is gone for good.
    static func connect(log: @escaping @Sendable (String) -> Void, ended: @escaping @Sendable () -> Void) -> String? {
        let parameters = storage.state.withLock { $0.parameters }
        guard let device = parameters.device else { return missing }
        do {
            let disk: any ExportedDisk
            if parameters.isOnXen {
                disk = try connect(LibxenHypervisor(time: .system), device, parameters, log, ended)
            } else {
                guard let directory = parameters.runDirectory else { return missing }
                if let problem = claim(device, parameters.domain, directory) { return problem }
                // What takes a right or a file comes before the confinement; what hears a peer, after it.
                let socket = try LoopbackHypervisor.openSocket(runDirectory: directory)
                let report = try parameters.confinement?.apply()
                if let report, !report.missing.isEmpty { log("\(report)") }
                let hypervisor = try LoopbackHypervisor(connected: socket, domain: parameters.domain, time: .system)
                disk = try connect(hypervisor, device, parameters, log, ended)
                // What is as it should be is of interest where there is a disk.
                if let report, report.missing.isEmpty, !parameters.isQuiet { log("\(report)") }
            }
            storage.state.withLock { $0.disk = disk }
            return nil
        } catch { return "\(error)" }
    }

    /// Two frontends of one device would take its rings from each other; returns who has it.
    private static func claim(_ device: UInt32, _ domain: DomainID, _ directory: String) -> String? {
        let path = "\(directory)/frontend-\(domain)-vbd-\(device).lock"
        do throws(ClaimError) {
            let claim = try FileClaim(path, patience: 1000, time: .system)
            storage.state.withLock { $0.claim = claim }
            return nil
        } catch {
            // Where the file cannot be made nobody else's is.
            if case .taken(let holder) = error { return "vbd \(device) of domain \(domain) is in use by \(holder)" }
            return nil
        }
    }

    private static func connect<H: Hypervisor>(
        _ hypervisor: H, _ device: UInt32, _ parameters: PluginParameters, _ log: @escaping @Sendable (String) -> Void,
        _ ended: @escaping @Sendable () -> Void
    ) throws -> any ExportedDisk {
        let frontend = try BlockFrontend(hypervisor: hypervisor, device: device, options: parameters.options, log: log) { error in
            storage.state.withLock { $0.end = $0.end ?? error }
            ended()
        }
        try frontend.connect(timeoutMilliseconds: parameters.timeoutMilliseconds)
        return try BlockDisk(frontend)
    }

    /// The connected disk.
    static var disk: (any ExportedDisk)? { storage.state.withLock { $0.disk } }

    /// Whether the disk went without being taken away: a service manager should start this process again.
    static var isLost: Bool { storage.state.withLock { $0.end.map { $0 != .removed } ?? false } }

    /// Closes the device in good order.
    static func close() { storage.state.withLock { $0.disk.take() }?.close() }
}
