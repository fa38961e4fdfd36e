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

    private static let state = Mutex(State())

    /// Takes one parameter; returns what is wrong with it.
    static func set(_ key: String, _ value: String) -> String? { state.withLock { $0.parameters.set(key, value) } }

    /// What is missing of the parameters.
    static var missing: String? {
        state.withLock {
            $0.parameters.device == nil ? "vdev= is missing" : $0.parameters.runDirectory == nil ? "run-dir= is missing" : nil
        }
    }

    /// Connects to the disk; returns what went wrong.
    static func connect(log: @escaping @Sendable (String) -> Void) -> String? {
        let parameters = state.withLock { $0.parameters }
        guard let device = parameters.device, let directory = parameters.runDirectory else { return missing }
        do {
            let hypervisor = try LoopbackHypervisor.connect(runDirectory: directory, domain: parameters.domain)
            let frontend = try BlockFrontend(
                hypervisor: hypervisor, device: device, options: parameters.options, log: log)
            try frontend.connect(timeoutMilliseconds: parameters.timeoutMilliseconds)
            let disk = try BlockDisk(frontend)
            state.withLock { $0.disk = disk }
            return nil
        } catch { return "\(error)" }
    }

    /// The connected disk.
    static var disk: BlockDisk<LoopbackHypervisor>? { state.withLock { $0.disk } }

    /// Closes the device in good order.
    static func close() { state.withLock { $0.disk.take() }?.close() }
}
