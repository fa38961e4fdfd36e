// The exported disk: one for the process, made when nbdkit is ready to serve, used by all its connections and threads.

import BlockFrontend
import LoopbackHypervisor
import Synchronization
import XenWire

/// What nbdkit's callbacks work on.
enum DiskExport {
    private struct State {
        var parameters = PluginParameters()
        var disk: BlockDisk<LoopbackHypervisor>?
    }

    /// In an object, for Swift 6.3's optimizer leaves a global `Mutex` of a struct zeroed instead of initialized (seen in a release build:
    /// every default of the parameters was 0).
    private final class Storage: Sendable { let state = Mutex(State()) }
    private static let storage = Storage()

    /// Takes one parameter; returns what is wrong with it.
    static func set(_ key: String, _ value: String) -> String? { storage.state.withLock { $0.parameters.set(key, value) } }

    /// What is missing of the parameters.
    static var missing: String? {
        storage.state.withLock {
            $0.parameters.device == nil ? "vdev= is missing" : $0.parameters.runDirectory == nil ? "run-dir= is missing" : nil
        }
    }

    /// Connects to the disk; returns what went wrong.
    static func connect(log: @escaping @Sendable (String) -> Void) -> String? {
        let parameters = storage.state.withLock { $0.parameters }
        guard let device = parameters.device, let directory = parameters.runDirectory else { return missing }
        do {
            let hypervisor = try LoopbackHypervisor.connect(runDirectory: directory, domain: parameters.domain)
            let frontend = try BlockFrontend(
                hypervisor: hypervisor, device: device, options: parameters.options, log: log)
            try frontend.connect(timeoutMilliseconds: parameters.timeoutMilliseconds)
            let disk = try BlockDisk(frontend)
            storage.state.withLock { $0.disk = disk }
            return nil
        } catch { return "\(error)" }
    }

    /// The connected disk.
    static var disk: BlockDisk<LoopbackHypervisor>? { storage.state.withLock { $0.disk } }

    /// Closes the device in good order.
    static func close() { storage.state.withLock { $0.disk.take() }?.close() }
}
