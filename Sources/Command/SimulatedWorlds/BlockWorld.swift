// A disk's whole world in one thread: a toolstack, a backend and a frontend of this project's own, a store, a
// hypervisor, a disk and its users. Whose turn it is, what goes wrong and what time it is come from one seed.

import BlockBackend
import BlockDevices
import BlockFrontend
import BlockProtocol
import DMA
import DriverRuntime
import FrameMaps
import HypervisorRules
import InProcess
import LinuxSystem
import Simulation
import Toolstack
import XenTypes

/// One simulation of a disk.
public final class BlockWorld {
    let plan: SimulationPlan
    let host: SimulatedHost
    let disk: ModelDisk
    let book: DiskBook
    let toolstack: DeviceDirectories
    let options: BlockBackendOptions
    let frontendOptions: BlockFrontendOptions
    /// What is in use while nobody runs.
    let baseline: HypervisorUsage

    static let guest = DomainID(1), driver = DomainID(2)
    static let device: UInt32 = 51712
    static let sectors = 256

    var backend: BackendProcess?
    var frontend: FrontendProcess?
    /// When who was killed comes back, by the clock.
    var backendReturns: UInt64 = 0
    var frontendReturns: UInt64 = 0

    /// Makes the world of a plan.
    /// - Parameter directory: for the backend's journals; made where it is missing, and empty.
    public init(_ plan: SimulationPlan, directory: String, keepsTrace: Bool = false) throws {
        self.plan = plan
        host = SimulatedHost(seed: plan.seed, kinds: plan.kinds, keepsTrace: keepsTrace)
        let chance = host.chance
        let canDiscard = chance.oneIn(2)
        disk = try ModelDisk(sectors: Self.sectors, canDiscard: canDiscard, host: host)
        book = DiskBook(sectors: Self.sectors, canDiscard: canDiscard)
        options = Self.backendOptions(chance, directory)
        frontendOptions = Self.frontendOptions(chance)
        let store = try host.store()
        for (number, name) in [(Self.guest, "guest"), (Self.driver, "driver")] {
            // A process that is gone at once: what counts is that there is such a domain.
            host.process(of: number).disconnect()
            try DomainDirectories(store: store).create(number, name: name, uuid: name)
        }
        toolstack = DeviceDirectories(store: store)
        _ = try toolstack.create(
            DeviceDirectories.Attachment(
                try DiskSpecification(parsing: "/model,raw,xvda,w"), frontend: Self.guest, backend: Self.driver))
        baseline = host.hypervisors.usage
    }

    private static func backendOptions(_ chance: Chance, _ directory: String) -> BlockBackendOptions {
        var options = BlockBackendOptions()
        options.queues = UInt32(1 + chance.below(3))
        options.ringPageOrder = UInt32(chance.below(3))
        options.indirectSegments = chance.pick([0, 16, 64])
        options.persistentGrants = chance.oneIn(2)
        options.persistentGrantLimit = chance.pick([4, 64, 4352])
        options.reactors = 1 + chance.below(2)
        options.barrier = chance.oneIn(2)
        options.discard = !chance.oneIn(4)
        options.dma.model = chance.pick(MemoryModel.allCases)
        options.dma.iommu = chance.pick([nil, nil, .strict, .deferred])
        options.dma.seed = chance.next()
        let hasJournals = chance.oneIn(2)
        if hasJournals { options.journalDirectory = directory }
        return options
    }

    private static func frontendOptions(_ chance: Chance) -> BlockFrontendOptions {
        var options = BlockFrontendOptions()
        options.abi = chance.pick(BlockABI.allCases)
        options.queues = 1 + chance.below(3)
        options.ringPageOrder = UInt32(chance.below(2))
        options.segments = chance.pick([11, 16, 64])
        options.persistentGrants = chance.oneIn(2)
        options.depth = DiskUser.depth
        options.bufferPages = DiskUser.depth * DiskUser.longest / 8
        return options
    }

    /// Runs it to its end.
    public func run() -> SimulationOutcome {
        var outcome = SimulationOutcome()
        do {
            for _ in 0..<plan.steps {
                try step()
                try check()
            }
            try settle()
            try end()
        } catch { outcome.violation = "\(error)" }
        killBackend()
        killFrontend()
        outcome.faults = host.faults.counts
        outcome.operations = book.answered
        outcome.hash = host.trace.hash
        outcome.trace = host.trace.lines
        return outcome
    }

    /// What must hold after every step.
    func check() throws {
        if let violation = disk.violations.first { throw Violation(violation) }
        if let failure = frontend?.failure { throw Violation("the frontend gave up: \(failure)") }
    }

    func note(_ code: UInt64, _ line: @autoclosure () -> String) { host.trace.note(5 << 32 | code, line()) }
}
