// A controller and what its namespaces' disks share: it is started here as the firmware or the last driver left it,
// asked what it is, given queues, and shut down when the last disk of it goes.

import DMA
import LinuxSystem
import SharedMemory
import Synchronization

/// One controller. Any thread; what goes through the admin queue waits for it.
public final class NVMeController: Sendable, CustomStringConvertible {
    /// The most pairs of queues that are asked for.
    static let mostQueues = 16
    /// Resets without a request served in between, after which the controller is given up.
    static let mostResets = 3

    let port: any NVMePort
    let time: any TimeSource
    let log: @Sendable (String) -> Void
    let capabilities: NVMeCapabilities
    private let adminMemory: SharedRegion
    /// What a successor goes by; nil: there can be none.
    let ledger: ControllerLedger?
    /// What became of a predecessor's commands; nil: there was none.
    let inherited: InheritedCommands?
    let admin: Mutex<AdminQueue>
    /// Counts the resets: a queue that sees another number than its own is not the controller's any more.
    let generation = Atomic<Int>(0)
    /// Whether it has been given up.
    let lost = Atomic<Bool>(false)
    let resets = Atomic<Int>(0)
    let resetting = Mutex(())
    /// What is tried once it was given up.
    let returning = Mutex(ReturnPlan())
    /// Where resets and aborts wait for the controller, so that no queue's thread does.
    let worker = BlockingWorker(name: "nvme")

    private struct Facts {
        var identity: NVMeControllerIdentity?
        var queueLimit = 1
        var queues: Set<Int> = []
        var namespaces: Set<UInt32> = []
    }
    private let facts = Mutex(Facts())
    /// By vector. One for the admin queue, which is waited for without it, and one for each pair where there are so
    /// many.
    let events: [Descriptor]
    /// What all pairs raise, where there are no vectors but one that is a line.
    let line: SharedInterrupt?

    /// Starts the controller, or goes on with it where a predecessor was killed.
    /// - Parameters:
    ///   - port: the way to it; its alone from now on.
    ///   - time: what time limits go by.
    ///   - log: is told of what goes wrong later; from any thread.
    public init(_ port: any NVMePort, time: any TimeSource, log: @escaping @Sendable (String) -> Void) throws(NVMeError) {
        self.port = port
        self.time = time
        self.log = log
        guard port.load(NVMeRegister.status) != NVMeRegister.gone else { throw .gone }
        capabilities = NVMeCapabilities(rawValue: port.load64(NVMeRegister.capabilities))
        guard capabilities.hasNVM else { throw .unsupported("NVM command set (CAP.CSS)") }
        guard capabilities.smallestPage == 0 else { throw .unsupported("pages of 4 KiB (CAP.MPSMIN)") }
        guard capabilities.queueEntries >= 2 else { throw .unsupported("queues of two entries (CAP.MQES)") }
        guard capabilities.completionDoorbell(Self.mostQueues) + 4 <= port.registerByteCount else {
            throw .unsupported("doorbells within its registers")
        }
        ledger = port.keeping.map { ControllerLedger($0) }
        let beginning: Beginning
        do throws(NVMeError) { beginning = try Self.begin(port, ledger, capabilities, time, log) } catch {
            port.keeping?.releaseAll()
            throw error
        }
        adminMemory = beginning.memory.region
        inherited = beginning.adopted?.inherited
        do throws(NVMeError) {
            let rings = QueueRings(
                0, capabilities, beginning.memory, ledger: ledger?.queue(0), isResumed: beginning.adopted != nil)
            admin = Mutex(AdminQueue(rings, port, time))
            events = try port.openVectors(min(port.vectorCount, Self.mostQueues + 1))
            line = port.isLine ? SharedInterrupt(port, events[0]) : nil
        } catch {
            port.memory.remove(beginning.memory.region)
            port.keeping?.releaseAll()
            throw error
        }
        do throws(NVMeError) { try startOrGoOn(beginning.adopted) } catch {
            // `deinit` does the rest: everything is there that it needs.
            try? Self.stop(port, capabilities, time)
            throw error
        }
    }

    deinit {
        if port.keeping?.isLeaving == true { return }
        if !lost.load(ordering: .relaxed) { shutDown() }
        port.cutOff()
        port.memory.remove(adminMemory)
        port.keeping?.releaseAll()
    }

    /// Memory for queues, zeroed, and where the controller finds it.
    /// - Parameter name: what it is kept as.
    static func memory(of port: any NVMePort, lists: Int, _ name: String) throws(NVMeError) -> QueueMemory {
        let region: SharedRegion
        do throws(Errno) {
            let count = QueueRings.byteCount(lists: lists)
            region =
                if let keeping = port.keeping {
                    try keeping.memory(name, byteCount: count)
                } else { try port.memory.makeMemory(count) }
        } catch {
            throw .resources("memory for queues", reason: "\(error)", error)
        }
        guard let placement = port.memory.place(region) else {
            throw .resources("memory for queues", reason: "cannot be mapped for it", .noMemory)
        }
        guard let pages = placement.pageAddresses(region.pageCount) else {
            port.memory.remove(region)
            throw .resources("memory for queues", reason: "has no address for each of its pages", .noMemory)
        }
        return QueueMemory(region: region, pages: pages)
    }

    // MARK: Starting and stopping

    /// Disables it: when it says so, it reads and writes no memory any more.
    static func stop(_ port: any NVMePort, _ capabilities: NVMeCapabilities, _ time: any TimeSource) throws(NVMeError) {
        let configuration = port.load(NVMeRegister.configuration)
        if configuration & NVMeRegister.Configuration.enable != 0 {
            port.store(configuration & ~NVMeRegister.Configuration.enable, at: NVMeRegister.configuration)
        }
        // A failure that it remembers ends with the reset.
        try wait(port, time, ready: false, milliseconds: capabilities.readyMilliseconds, failsOnFatal: false)
    }

    private static func wait(
        _ port: any NVMePort, _ time: any TimeSource, ready: Bool, milliseconds: Int, failsOnFatal: Bool
    ) throws(NVMeError) {
        let deadline = time.deadline(milliseconds: milliseconds)
        while true {
            let status = port.load(NVMeRegister.status)
            if status == NVMeRegister.gone { throw .gone }
            if failsOnFatal, status & NVMeRegister.Status.fatal != 0 { throw .fatal }
            if (status & NVMeRegister.Status.ready != 0) == ready { return }
            guard time.nanoseconds < deadline else { throw .notReady(ready, milliseconds: milliseconds, status: status) }
            time.sleep(milliseconds: 1)
        }
    }

    /// Enables it and asks what it is. Its queues are to be made anew.
    func start() throws(NVMeError) {
        let queueLimit = try admin.withLock { (admin: inout AdminQueue) throws(NVMeError) in
            admin.clear()
            let (entries, addresses) = (admin.entries, admin.addresses)
            port.store(UInt32(entries.completion - 1) << 16 | UInt32(entries.submission - 1), at: NVMeRegister.adminQueues)
            port.store64(addresses.submission.rawValue, at: NVMeRegister.adminSubmission)
            port.store64(addresses.completion.rawValue, at: NVMeRegister.adminCompletion)
            port.store(
                NVMeRegister.Configuration.entrySizes | NVMeRegister.Configuration.enable, at: NVMeRegister.configuration)
            try Self.wait(port, time, ready: true, milliseconds: capabilities.readyMilliseconds, failsOnFatal: true)
            let wanted = line == nil ? min(Self.mostQueues, max(1, events.count - 1)) : Self.mostQueues
            // Asked once after each reset. What is granted may be more or less.
            let granted = try admin.perform(.setQueueCount(wanted), "Set Features (number of queues)")
            return min(wanted, Int(granted & 0xFFFF) + 1, Int(granted >> 16) + 1)
        }
        try takeIdentity(queueLimit: queueLimit)
        ledger?.begin(
            ControllerLedger.SetUp(
                capabilities: capabilities.rawValue, adminAddress: admin.withLock { $0.addresses.submission.rawValue },
                queueLimit: queueLimit, vectors: events.count))
    }

    /// Asks what it is.
    func takeIdentity(queueLimit: Int) throws(NVMeError) {
        let page = try admin.withLock { (admin: inout AdminQueue) throws(NVMeError) in
            try admin.page(.controller, 0, "Identify Controller")
        }
        let identity = try NVMeControllerIdentity(page, page: PageList.page)
        facts.withLock { ($0.identity, $0.queueLimit) = (identity, queueLimit) }
    }

    private func shutDown() {
        // One that never said what it is has served nobody; whether it is enabled is its own word.
        guard let identity = facts.withLock({ $0.identity }) else { return }
        let configuration = port.load(NVMeRegister.configuration)
        guard configuration != NVMeRegister.gone, configuration & NVMeRegister.Configuration.enable != 0 else { return }
        port.store(
            configuration & ~NVMeRegister.Configuration.shutdownMask | NVMeRegister.Configuration.shutdownNormal,
            at: NVMeRegister.configuration)
        let deadline = time.deadline(milliseconds: identity.shutdownMilliseconds)
        while time.nanoseconds < deadline {
            let status = port.load(NVMeRegister.status)
            if status == NVMeRegister.gone { return }
            if status & NVMeRegister.Status.shutdownMask == NVMeRegister.Status.shutdownComplete { break }
            time.sleep(milliseconds: 1)
        }
        // Its memory is taken from it next.
        try? Self.stop(port, capabilities, time)
    }

    // MARK: What it is

    /// What it said last.
    var identity: NVMeControllerIdentity {
        guard let identity = facts.withLock({ $0.identity }) else { preconditionFailure("a controller that has not started") }
        return identity
    }
    /// Pairs of queues that there may be at once.
    var queueLimit: Int { facts.withLock { $0.queueLimit } }
    /// The most bytes of a transfer.
    var transferByteCount: UInt64 { min(identity.transferByteCount ?? PageList.mostBytes, PageList.mostBytes) }

    /// The namespaces that are active, at most 1024 of them.
    func activeNamespaces() throws(NVMeError) -> [UInt32] {
        let bytes = try admin.withLock { (admin: inout AdminQueue) throws(NVMeError) in
            try admin.page(.activeNamespaces, 0, "Identify (active namespaces)")
        }
        return stride(from: 0, to: bytes.count, by: 4).map { UInt32(bytes.number($0, 4)) }.filter { $0 != 0 }
    }

    func namespace(_ number: UInt32) throws(NVMeError) -> NVMeNamespaceIdentity {
        let bytes = try admin.withLock { (admin: inout AdminQueue) throws(NVMeError) in
            try admin.page(.namespace, number, "Identify Namespace \(number)")
        }
        return try NVMeNamespaceIdentity(number, bytes)
    }

    /// A namespace is one disk's.
    func claim(_ namespace: UInt32) throws(NVMeError) {
        if !facts.withLock({ $0.namespaces.insert(namespace).inserted }) { throw .inUse(namespace) }
    }

    func disclaim(_ namespace: UInt32) { facts.withLock { _ = $0.namespaces.remove(namespace) } }

    // MARK: Queues

    /// A number for a pair of queues; nil: all are in use.
    func takeQueue() -> Int? {
        facts.withLock { facts in
            guard let number = (1...facts.queueLimit).first(where: { !facts.queues.contains($0) }) else { return nil }
            facts.queues.insert(number)
            return number
        }
    }

    func giveBackQueue(_ number: Int) { facts.withLock { _ = $0.queues.remove(number) } }

    /// The vector that a pair raises: its own where there are enough.
    func vector(of queue: Int) -> Int { min(queue, events.count - 1) }

    /// Makes a pair of queues, which stand there zeroed: the completions' first, which the other names.
    func create(_ place: QueuePlace) throws(NVMeError) {
        let number = place.number
        let queue = ledger?.queue(number)
        queue?.submissions = place.submissionAddress.rawValue
        queue?.state = .changing
        let completions = NVMeCommand.createCompletionQueue(
            number, entries: place.completionEntries, vector: vector(of: number), at: place.completionAddress)
        let submissions = NVMeCommand.createSubmissionQueue(number, entries: place.submissionEntries, at: place.submissionAddress)
        try admin.withLock { (admin: inout AdminQueue) throws(NVMeError) in
            try admin.perform(completions, "Create I/O Completion Queue \(number)")
            do throws(NVMeError) { try admin.perform(submissions, "Create I/O Submission Queue \(number)") } catch {
                _ = try? admin.perform(.deleteQueue(number, isSubmission: false), "Delete I/O Completion Queue \(number)")
                throw error
            }
        }
        queue?.state = .made
    }

    /// Ends a pair; false: the controller may know it still. A reactor's thread waits for it.
    func delete(_ number: Int) -> Bool {
        let queue = ledger?.queue(number)
        queue?.state = .changing
        return admin.withLock { admin in
            do throws(NVMeError) {
                let limit = 5000
                try admin.perform(.deleteQueue(number, isSubmission: true), "Delete I/O Submission Queue", milliseconds: limit)
                try admin.perform(.deleteQueue(number, isSubmission: false), "Delete I/O Completion Queue", milliseconds: limit)
                queue?.state = .none
                return true
            } catch { return false }
        }
    }

    /// `0000:00:04.0: QEMU NVMe Ctrl, serial …, 4 queues`.
    public var description: String {
        "\(port.name): \(identity.model), serial \(identity.serial), firmware \(identity.firmware), up to \(queueLimit) queues"
    }

    // MARK: When it goes wrong

    /// Whether it has been given up.
    public var isLost: Bool { lost.load(ordering: .relaxed) }

    /// Whether it is there and has not said that it failed.
    var isHealthy: Bool {
        let status = port.load(NVMeRegister.status)
        return status != NVMeRegister.gone && status & NVMeRegister.Status.fatal == 0
    }

    /// A request was served: resets so far have helped.
    func noteProgress() {
        if resets.load(ordering: .relaxed) == 0 { return }
        resets.store(0, ordering: .relaxed)
        returning.withLock { $0.tries = 0 }
    }

    /// Asks it to give up a command; what comes of it is seen in that command's queue.
    func abort(_ identifier: UInt16, queue: Int) {
        admin.withLock { admin in
            _ = try? admin.perform(.abort(identifier, queue: queue), "Abort", milliseconds: 5000)
        }
    }

    /// Ends all that it does and starts it again, unless that has happened since `seen`; the queues find out by
    /// `generation` and are made anew by those who have them.
    func reset(since seen: Int, because reason: String) {
        resetting.withLock { _ in
            guard generation.load(ordering: .acquiring) == seen, !lost.load(ordering: .relaxed) else { return }
            let count = resets.load(ordering: .relaxed) + 1
            resets.store(count, ordering: .relaxed)
            if count > Self.mostResets { return giveUp("\(reason); \(Self.mostResets) resets have not helped") }
            log("\(port.name): \(reason): it is reset")
            ledger?.end()
            do throws(NVMeError) {
                try Self.stop(port, capabilities, time)
                try start()
                generation.wrappingAdd(1, ordering: .releasing)
            } catch { giveUp("\(reason); the reset failed: \(error)") }
        }
    }

    /// It is driven no longer: it is stopped, kept from memory, and all that is asked of it fails.
    /// - Parameter mayReturn: whether it is tried again.
    func giveUp(_ reason: String, mayReturn: Bool = true) {
        if lost.exchange(true, ordering: .acquiringAndReleasing) { return }
        planReturn(mayReturn)
        log("\(port.name): \(reason): the controller is given up, and all requests fail")
        ledger?.end()
        try? Self.stop(port, capabilities, time)
        // Should it not stop by itself.
        port.cutOff()
        generation.wrappingAdd(1, ordering: .releasing)
    }
}
