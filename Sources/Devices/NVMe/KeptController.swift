// A controller's descriptors with whoever keeps them: container, group, device, vectors and memory. The last of them
// that is closed is what has VFIO reset the controller.

import HostIommu
import LinuxSystem
import SharedMemory
import Synchronization

/// What is kept of one controller, or was by a predecessor.
final class KeptController: NVMeKeeping {
    private enum Name {
        static let container = "container"
        static let group = "group"
        static let device = "device"
        static let ledger = "ledger"
        static let vector = "vector "
    }

    /// A controller's ways, opened anew or gone on with.
    struct Opened {
        let function: VFIOFunction
        let mappings: RegionMappings
        let kept: KeptController?
    }

    let isLeft: Bool
    let ledger: SharedRegion
    private let keeper: any DescriptorKeeper
    private let prefix: String
    private let mappings: RegionMappings
    private struct State {
        var left: [String: Descriptor]
        var names: Set<String> = []
        var isLeaving = false
    }
    private let state: Mutex<State>

    private init(
        _ keeper: any DescriptorKeeper, _ prefix: String, _ left: [String: Descriptor], isLeft: Bool, _ ledger: SharedRegion,
        _ mappings: RegionMappings
    ) {
        (self.keeper, self.prefix, self.isLeft, self.ledger, self.mappings) = (keeper, prefix, isLeft, ledger, mappings)
        state = Mutex(State(left: left))
    }

    /// Goes on with what a predecessor has left with `keeper`, or opens the controller at `address` and keeps it there.
    static func open(
        _ address: PCIAddress, _ keeper: (any DescriptorKeeper)?, _ account: LockedMemoryAccount, _ kernel: any IommuKernel,
        _ log: @escaping @Sendable (String) -> Void
    ) throws(NVMeError) -> Opened {
        if let device = PCIDevice(address), device.obstacle() == nil, let node = device.iommufdNode() {
            if keeper != nil {
                log("\(address): the kernel has iommufd and no VFIO of groups: the controller is reset if this process is killed")
            }
            return try open(address, node, account, kernel, log)
        }
        guard let keeper else {
            let opened = try open(address, account, kernel)
            return Opened(
                function: opened.function, mappings: RegionMappings(opened.container, name: "\(address)", log: log), kept: nil)
        }
        let prefix = "nvme \(address) "
        let left = keeper.kept(prefix)
        if let container = left[Name.container], let group = left[Name.group], let device = left[Name.device] {
            let opened: VFIOFunction.Opened?
            do throws(DMABackEndError) {
                opened = try VFIOFunction.adopt(
                    address, device, container: container, group: group, account: account, kernel: kernel)
            } catch {
                opened = nil
                log("\(address): \(error): what a predecessor had open of it is closed, and it is opened anew")
            }
            if let opened { return try keep(opened, address, keeper, left, isLeft: true, log) }
        }
        for name in left.keys { keeper.release(prefix + name) }
        return try keep(try open(address, account, kernel), address, keeper, [:], isLeft: false, log)
    }

    private static func open(
        _ address: PCIAddress, _ node: String, _ account: LockedMemoryAccount, _ kernel: any IommuKernel,
        _ log: @escaping @Sendable (String) -> Void
    ) throws(NVMeError) -> Opened {
        do throws(PCIObstacle) {
            let opened = try VFIOFunction.open(address, node: node, account: account, kernel: kernel)
            return Opened(
                function: opened.function, mappings: RegionMappings(opened.space, name: "\(address)", log: log), kept: nil)
        } catch { throw .obstacle("\(error)", error.number) }
    }

    private static func open(
        _ address: PCIAddress, _ account: LockedMemoryAccount, _ kernel: any IommuKernel
    ) throws(NVMeError) -> VFIOFunction.Opened {
        do throws(PCIObstacle) { return try VFIOFunction.open(address, account: account, kernel: kernel) } catch {
            throw .obstacle("\(error)", error.number)
        }
    }

    private static func keep(
        _ opened: consuming sending VFIOFunction.Opened, _ address: PCIAddress, _ keeper: any DescriptorKeeper,
        _ left: [String: Descriptor], isLeft: Bool, _ log: @escaping @Sendable (String) -> Void
    ) throws(NVMeError) -> Opened {
        let function = opened.function
        let descriptors = opened.container.descriptors
        let prefix = "nvme \(address) "
        do throws(Errno) {
            var memory = left[Name.ledger]
            if let known = memory, !SealedMemory.isSealed(known, byteCount: ControllerLedger.byteCount) { memory = nil }
            let ledger: Descriptor =
                if let memory { memory } else {
                    try SealedMemory("nvme-ledger", byteCount: ControllerLedger.byteCount, final: true).descriptor
                }
            let region = try SharedRegion(mapping: ledger, byteCount: ControllerLedger.byteCount, writable: true)
            let mappings = RegionMappings(
                opened.container, book: ControllerLedger.book(in: region), name: "\(address)", log: log)
            let kept = KeptController(keeper, prefix, left, isLeft: isLeft, region, mappings)
            // The ledger first: what has no ledger is not gone on with.
            try kept.keep(ledger, Name.ledger)
            try kept.keep(descriptors.container, Name.container)
            try kept.keep(descriptors.group, Name.group)
            try kept.keep(function.descriptor, Name.device)
            for (number, vector) in kept.vectors.enumerated() { try kept.keep(vector, "\(Name.vector)\(number)") }
            return Opened(function: function, mappings: mappings, kept: kept)
        } catch { throw .resources("what outlives this process", reason: "\(error)", error) }
    }

    private func keep(_ descriptor: Descriptor, _ name: String) throws(Errno) {
        try keeper.keep(descriptor, as: prefix + name)
        state.withLock { state in
            state.names.insert(name)
            state.left[name] = descriptor
        }
    }

    var vectors: [Descriptor] {
        state.withLock { state in
            var vectors: [Descriptor] = []
            while let next = state.left["\(Name.vector)\(vectors.count)"] { vectors.append(next) }
            return vectors
        }
    }

    /// The controller counts in these from now on.
    func keep(vectors: [Descriptor]) throws(NVMeError) {
        do throws(Errno) {
            for (number, vector) in vectors.enumerated() { try keep(vector, "\(Name.vector)\(number)") }
        } catch { throw .resources("interrupt vectors that outlive this process", reason: "\(error)", error) }
    }

    func memory(_ name: String, byteCount: Int) throws(Errno) -> SharedRegion {
        let memory = try SealedMemory("nvme-queue", byteCount: byteCount, final: true)
        let region = try SharedRegion(mapping: memory.descriptor, byteCount: byteCount, writable: true)
        try keep(memory.descriptor, name)
        return region
    }

    func left(_ name: String, byteCount: Int) -> SharedRegion? {
        guard let descriptor = state.withLock({ $0.left[name] }), SealedMemory.isSealed(descriptor, byteCount: byteCount) else {
            return nil
        }
        do throws(Errno) {
            try keep(descriptor, name)
            return try SharedRegion(mapping: descriptor, byteCount: byteCount, writable: true)
        } catch { return nil }
    }

    func release(_ name: String) {
        state.withLock { state in
            state.names.remove(name)
            state.left[name] = nil
        }
        keeper.release(prefix + name)
    }

    func forgetMappings() throws(NVMeError) {
        do throws(DMABackEndError) { try mappings.forgetPredecessor() } catch {
            throw .resources("what a predecessor had mapped", reason: "\(error)", .ioError)
        }
    }

    func releaseAll() { for name in state.withLock({ Array($0.left.keys) }) { release(name) } }

    var isLeaving: Bool { state.withLock(\.isLeaving) }

    func leave() { state.withLock { $0.isLeaving = true } }
}
