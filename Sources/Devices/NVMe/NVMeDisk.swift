// A namespace as a disk.

import BlockDevices
import DMA
import LinuxSystem
import Reactor
import Synchronization

/// How long a controller may take.
public struct NVMeLimits: Sendable {
    /// A command, before the controller is asked to give it up.
    public var commandSeconds: UInt32
    /// That, before the controller is reset.
    public var abortSeconds: UInt32
    /// From when it was given up until it is tried again; each further try is twice as far from the one before.
    public var returnSeconds: UInt32

    /// The first two as Linux has them, unless said otherwise.
    public init(commandSeconds: UInt32 = 30, abortSeconds: UInt32 = 5, returnSeconds: UInt32 = 2) {
        self.commandSeconds = commandSeconds
        self.abortSeconds = abortSeconds
        self.returnSeconds = returnSeconds
    }
}

/// A namespace of a controller.
public final class NVMeDisk: BlockDevice {
    /// As it was asked for.
    public let name: String
    /// What it is a namespace of.
    public let controller: NVMeController
    let namespace: NVMeNamespaceIdentity
    let limits: NVMeLimits
    private let isReadOnly: Bool
    private let current: Mutex<BlockGeometry>
    /// Counts the geometry's changes, so that queues keep a copy and take no lock for each operation.
    let version = Atomic<Int>(0)

    /// Takes a namespace of `controller` for itself.
    /// - Parameter number: nil: the only one that is active.
    public init(
        _ controller: NVMeController, namespace number: UInt32?, name: String, readOnly: Bool = false,
        limits: NVMeLimits = NVMeLimits()
    ) throws(NVMeError) {
        let active = try controller.activeNamespaces()
        let chosen: UInt32
        if let number {
            guard active.contains(number) else { throw .noNamespace(number, active: active) }
            chosen = number
        } else {
            guard let first = active.first else { throw .noNamespace(1, active: active) }
            guard active.count == 1 else { throw .whichNamespace(active) }
            chosen = first
        }
        let identity = try controller.namespace(chosen)
        try controller.claim(chosen)
        self.name = name
        self.controller = controller
        self.limits = limits
        namespace = identity
        isReadOnly = readOnly
        current = Mutex(identity.geometry(controller.identity, readOnly: readOnly))
    }

    deinit { controller.disclaim(namespace.number) }

    /// As last read.
    public var geometry: BlockGeometry { current.withLock { $0 } }

    /// As many as the controller has pairs of queues for; its namespaces share them.
    public var queueLimit: Int { controller.queueLimit }

    /// Asks the controller for the size. The blocks' size stays: another one is another disk.
    public func refreshGeometry() throws(Errno) -> BlockGeometry {
        // One that was stopped answers nothing, and would be waited for.
        guard !controller.isLost else { throw .ioError }
        do throws(NVMeError) {
            let now = try controller.namespace(namespace.number)
            guard now.blockShift == namespace.blockShift else { throw .blockSize(now.number, shift: now.blockShift) }
            let geometry = now.geometry(controller.identity, readOnly: isReadOnly)
            current.withLock { $0 = geometry }
            version.wrappingAdd(1, ordering: .releasing)
            return geometry
        } catch { throw error.number }
    }

    /// A pair of queues of the controller's. Regions on `bus` are at the controller's own addresses from then on, so it
    /// must be a direct map to which nothing is attached: EINVAL otherwise.
    public func openQueue(
        on reactor: Reactor, bus: MemoryBus, depth: Int, owner: any BlockQueueOwner
    ) throws(Errno) -> any BlockDeviceQueue {
        guard bus.takeAddresses(from: controller.port.memory) else {
            controller.log("\(name): its addresses are the machine's own: no other memory model or IOMMU can be put before it")
            throw .invalidArgument
        }
        do throws(NVMeError) { return try NVMeQueue(disk: self, reactor: reactor, bus: bus, owner: owner) } catch {
            controller.log("\(name): \(error)")
            throw error.number
        }
    }
}
