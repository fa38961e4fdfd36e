// The exported disk: one for the process, made when nbdkit is ready to serve, used by all its connections and threads.

import BlockFrontend
import Hypervisor
import LibxenHypervisor
import LoopbackHypervisor
import Synchronization
import XenBus

/// A connected disk, whichever hypervisor it stands on: asked once a callback, never once a segment.
protocol ExportedDisk: Sendable {
    var byteCount: UInt64 { get }
    var properties: BlockProperties { get }
    func read(at offset: UInt64, into destination: inout MutableRawSpan) throws(BlockDiskError)
    func write(at offset: UInt64, from source: RawSpan) throws(BlockDiskError)
    func flush() throws(BlockDiskError)
    func discard(at offset: UInt64, byteCount: UInt64, secure: Bool) throws(BlockDiskError)
    func close()
}

extension BlockDisk: ExportedDisk {}

/// What nbdkit's callbacks work on.
enum DiskExport {
    private struct State {
        var parameters = PluginParameters()
        var disk: (any ExportedDisk)?
    }

    /// In an object, for Swift 6.3's optimizer leaves a global `Mutex` of a struct zeroed instead of initialized (seen in a release build:
    /// every default of the parameters was 0).
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
    static func connect(log: @escaping @Sendable (String) -> Void) -> String? {
        let parameters = storage.state.withLock { $0.parameters }
        guard let device = parameters.device else { return missing }
        do {
            let disk: any ExportedDisk
            if parameters.isOnXen {
                disk = try connect(LibxenHypervisor(), device, parameters, log)
            } else {
                guard let directory = parameters.runDirectory else { return missing }
                let hypervisor = try LoopbackHypervisor.connect(runDirectory: directory, domain: parameters.domain)
                disk = try connect(hypervisor, device, parameters, log)
            }
            storage.state.withLock { $0.disk = disk }
            return nil
        } catch { return "\(error)" }
    }

    private static func connect<H: Hypervisor>(
        _ hypervisor: H, _ device: UInt32, _ parameters: PluginParameters, _ log: @escaping @Sendable (String) -> Void
    ) throws -> any ExportedDisk {
        let frontend = try BlockFrontend(hypervisor: hypervisor, device: device, options: parameters.options, log: log)
        try frontend.connect(timeoutMilliseconds: parameters.timeoutMilliseconds)
        return try BlockDisk(frontend)
    }

    /// The connected disk.
    static var disk: (any ExportedDisk)? { storage.state.withLock { $0.disk } }

    /// Closes the device in good order.
    static func close() { storage.state.withLock { $0.disk.take() }?.close() }
}
