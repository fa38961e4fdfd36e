// Going on with a controller that a killed process drove, without a reset. What that one had given to it is waited for
// first: until the last such command has ended, the memory that it names stays mapped, and nothing is asked again. Then
// the old pairs of queues are deleted, and disks open theirs as ever; what was asked again and has been done meanwhile
// is answered from what is known of it.

import DMA
import LinuxSystem
import SharedMemory

/// A predecessor's controller at rest.
struct AdoptedController: Sendable {
    let setUp: ControllerLedger.SetUp
    let adminRegion: SharedRegion
    /// Pairs that it may know, and whether it surely does.
    let queues: [(number: Int, isMade: Bool)]
    let inherited: InheritedCommands
}

extension NVMeController {
    /// How long a predecessor's commands may take to end; those of the admin queue.
    private static let reapMilliseconds = 30_000
    private static let reapAdminMilliseconds = 5000

    /// Waits until nothing is under way at a predecessor's controller.
    static func adopt(
        _ port: any NVMePort, _ keeping: any NVMeKeeping, _ ledger: ControllerLedger, _ capabilities: NVMeCapabilities,
        _ time: any TimeSource
    ) throws(NotAdoptable) -> AdoptedController {
        let setUp = try ledger.read()
        guard setUp.capabilities == capabilities.rawValue else { throw NotAdoptable("it is another controller than it was") }
        guard setUp.vectors == keeping.vectors.count, setUp.vectors == min(port.vectorCount, mostQueues + 1) else {
            throw NotAdoptable("its \(setUp.vectors) interrupt vectors are not all there")
        }
        guard (1...mostQueues).contains(setUp.queueLimit) else { throw NotAdoptable("it had \(setUp.queueLimit) queues") }
        let wanted = NVMeRegister.Configuration.entrySizes | NVMeRegister.Configuration.enable
        let (configuration, status) = (port.load(NVMeRegister.configuration), port.load(NVMeRegister.status))
        guard configuration == wanted, status & (NVMeRegister.Status.ready | NVMeRegister.Status.fatal) == NVMeRegister.Status.ready
        else {
            throw NotAdoptable(
                "it does not run as it was left (CC 0x\(String(configuration, radix: 16)), CSTS 0x\(String(status, radix: 16)))")
        }
        guard port.load64(NVMeRegister.adminSubmission) == setUp.adminAddress,
            let admin = keeping.left("admin", byteCount: QueueRings.byteCount(lists: 1))
        else { throw NotAdoptable("its admin queue is not where the record has it") }
        var (inherited, queues): ([(CommandIdentity, NVMeStatus)], [(Int, Bool)]) = ([], [])
        for number in 1...mostQueues {
            let queue = ledger.queue(number)
            if queue.state == .none { continue }
            queues.append((number, queue.state == .made))
            guard queue.state == .made else { continue }
            inherited += try reap(number, queue, port, keeping, capabilities, time)
        }
        try reapAdmin(admin, setUp, ledger, port, capabilities, time)
        return AdoptedController(setUp: setUp, adminRegion: admin, queues: queues, inherited: InheritedCommands(inherited))
    }

    /// Waits for what one pair has been given; how it ended.
    private static func reap(
        _ number: Int, _ ledger: QueueLedger, _ port: any NVMePort, _ keeping: any NVMeKeeping, _ capabilities: NVMeCapabilities,
        _ time: any TimeSource
    ) throws(NotAdoptable) -> [(CommandIdentity, NVMeStatus)] {
        let name = queueName(number, ledger.memory)
        guard let region = keeping.left(name, byteCount: QueueRings.byteCount(lists: QueueRings.mostCommands)) else {
            throw NotAdoptable("the memory of its queue \(number) is not there")
        }
        // Where the controller has it is of no matter: the commands say that themselves.
        var rings = QueueRings(number, capabilities, .unplaced(region), ledger: ledger, isResumed: true)
        let submissions = DeviceAddress(rawValue: ledger.submissions)
        var given: [Int: NVMeCommand] = [:]
        for slot in 0..<rings.depth { given[slot] = ledger.command(slot) }
        var ended: [(CommandIdentity, NVMeStatus)] = []
        try rings.reap(port, time, milliseconds: reapMilliseconds) { completion in
            let slot = Int(completion.identifier)
            // One that is not noted any more was accounted before its place was.
            guard let command = given.removeValue(forKey: slot) else { return }
            // Only now: it may be the controller's until its completion has been read.
            let list = QueueRings.listOffset(slot)
            let identity = CommandIdentity(
                command, blockShift: UInt64(ledger.blockShift & 63), list: list,
                at: submissions.inRun(behind: UInt64(list)), in: region)
            // A flush that is asked again may have to cover more than this one did.
            if command.opcode != 0 { ended.append((identity, completion.status)) }
            ledger.forget(slot)
        }
        guard given.isEmpty else { throw NotAdoptable("\(given.count) commands of its queue \(number) have no completion") }
        return ended
    }

    private static func reapAdmin(
        _ region: SharedRegion, _ setUp: ControllerLedger.SetUp, _ ledger: ControllerLedger, _ port: any NVMePort,
        _ capabilities: NVMeCapabilities, _ time: any TimeSource
    ) throws(NotAdoptable) {
        var rings = QueueRings(0, capabilities, .unplaced(region), ledger: ledger.queue(0), isResumed: true)
        try rings.reap(port, time, milliseconds: reapAdminMilliseconds) { _ in }
    }

    static func queueName(_ number: Int, _ serial: UInt32) -> String { "queue \(number) \(serial)" }

    /// Goes on with a controller at rest, whose memory is where it was.
    func goOn(_ adopted: AdoptedController) throws(NVMeError) {
        try admin.withLock { (admin: inout AdminQueue) throws(NVMeError) in
            for (number, isMade) in adopted.queues {
                // Should this process be killed, too: nothing of the pair is under way, and it may be gone.
                ledger?.queue(number).state = .changing
                do throws(NVMeError) {
                    try admin.perform(.deleteQueue(number, isSubmission: true), "Delete I/O Submission Queue")
                    try admin.perform(.deleteQueue(number, isSubmission: false), "Delete I/O Completion Queue")
                } catch {
                    // Of one that was being made, or ended, there may be neither or only the second.
                    guard !isMade, case .command = error else { throw error }
                    _ = try? admin.perform(.deleteQueue(number, isSubmission: false), "Delete I/O Completion Queue")
                }
                guard let queue = ledger?.queue(number) else { continue }
                queue.state = .none
                port.keeping?.release(Self.queueName(number, queue.memory))
            }
        }
        try takeIdentity(queueLimit: adopted.setUp.queueLimit)
    }
}

extension QueueRings {
    /// Between two looks.
    private static let pauseNanoseconds: UInt64 = 50_000

    /// Takes the completion of everything that was pushed by a predecessor, and tells the controller so.
    mutating func reap(
        _ port: any NVMePort, _ time: any TimeSource, milliseconds: Int, _ take: (NVMeCompletion) -> Void
    ) throws(NotAdoptable) {
        guard underWay <= depth else { throw NotAdoptable("its queue \(number) has \(underWay) commands under way") }
        guard phasesAreOld(beyond: underWay) else {
            throw NotAdoptable("its completion queue \(number) is not where the record has it")
        }
        ring(port)
        let deadline = time.deadline(milliseconds: milliseconds)
        while underWay > 0 {
            if let completion = next() {
                take(completion)
                continue
            }
            let status = port.load(NVMeRegister.status)
            guard status != NVMeRegister.gone, status & NVMeRegister.Status.fatal == 0 else {
                throw NotAdoptable("it has failed (CSTS 0x\(String(status, radix: 16)))")
            }
            guard time.nanoseconds < deadline else {
                throw NotAdoptable("\(underWay) commands of its queue \(number) have not ended in \(milliseconds) ms")
            }
            time.sleep(nanoseconds: Self.pauseNanoseconds)
        }
        acknowledge(port)
    }
}
