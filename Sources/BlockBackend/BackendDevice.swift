// One vbd on the control thread: follows the store, asks BackendMachine what to do, does it. Its queues run elsewhere.

import HostDevices
import Hypervisor
import LinuxSystem
import Reactor
import SharedMemory
import SharedRing
import XenBus
import XenStore
import XenWire

/// Opens the disk that a directory names; throws one line that names it and the reason.
public typealias DiskOpener = @Sendable (DiskSettings) throws(DiskOpenFailure) -> any BlockDevice

/// Why a disk could not be opened: one line with its name and the reason.
public struct DiskOpenFailure: Error, Sendable, CustomStringConvertible {
    /// The error number for the error node.
    public let number: Int32
    /// The line.
    public let description: String
    /// Wraps a line.
    public init(number: Int32, _ description: String) {
        self.number = number
        self.description = description
    }
}

/// The control thread's view of one vbd.
final class BackendDevice {
    let path: BackendPath
    let hypervisor: any Hypervisor
    let options: BlockBackendOptions
    let openDisk: DiskOpener
    /// Where this process leaves what a successor needs; nil: nowhere.
    let journals: JournalDirectory?
    private let nextReactor: () -> Reactor
    private let report: @Sendable (DeviceID, QueueReport) -> Void
    let log: (String) -> Void

    var hasAnnounced = false
    /// A predecessor's rings could not be taken over: they are closed instead.
    var hasRefusedAdoption = false
    /// Requests of a predecessor that are done again.
    var takenOver = 0
    /// The most grants that a queue keeps mapped here, where there is not room for what the options say.
    private var grantsKept = Int.max
    /// What the frontend was told of the disk's size.
    var publishedSectors: UInt64 = 0
    /// After a disk could not be opened: when to try again (monotonic milliseconds), and how long to wait the next time.
    var retryAt: Int64 = 0
    var retryPause: Int64 = 0
    private var lastMessage = ""
    var queues: [(queue: BackendQueue, reactor: Reactor)] = []
    /// Queues that have been told to close and have not reported it.
    private var draining = 0
    var settings: DiskSettings?
    var disk: (any BlockDevice)?
    private(set) var frontendPath: String?
    /// The hypervisor says that the frontend's domain is gone, whatever its directory still says.
    var isOrphan = false

    init(
        path: BackendPath, hypervisor: any Hypervisor, options: BlockBackendOptions, journals: JournalDirectory?,
        openDisk: @escaping DiskOpener, nextReactor: @escaping () -> Reactor,
        report: @escaping @Sendable (DeviceID, QueueReport) -> Void,
        log: @escaping (String) -> Void
    ) {
        self.path = path
        self.hypervisor = hypervisor
        self.options = options
        self.journals = journals
        self.openDisk = openDisk
        self.nextReactor = nextReactor
        self.report = report
        self.log = log
    }

    /// When `follow` should be called again although nothing changed; nil: never.
    var followAgainAt: Int64? { retryAt > 0 && disk == nil ? retryAt : nil }

    /// Whether it is time to `follow` although nothing changed; once for each pause.
    func takeRetry() -> Bool {
        guard let due = followAgainAt, due <= monotonicMilliseconds() else { return false }
        retryAt = 0
        return true
    }

    /// Whether anything of the frontend's is held.
    var isIdle: Bool { queues.isEmpty && draining == 0 }

    /// Does what the store calls for, until there is nothing to do; false if the device's directory is gone and nothing is held.
    func follow(_ store: StoreClient) throws(XenbusError) -> Bool {
        // The number of steps of a whole life is small; a frontend that changes its state as we go gets its turn later.
        for _ in 0..<8 {
            guard draining == 0 else { return true }
            guard try store.text(path.path + "/state") != nil else {
                closeQueues()
                disk = nil
                return !isIdle
            }
            do throws(XenbusError) {
                if try !step(store) { return true }
            } catch {
                // A store that is gone is everybody's problem; a node that is wrong is this device's.
                if error.isDisconnected { throw error }
                try fail(store, 22, "\(error)")
                return true
            }
        }
        return true
    }

    private func step(_ store: StoreClient) throws(XenbusError) -> Bool {
        let frontend = try locateFrontend(store)
        let own = try store.state(of: path.path)
        let theirs = isOrphan ? .unknown : try store.state(of: frontend)
        let step = BackendMachine.next(
            own: own, frontend: theirs, holds: !queues.isEmpty, announced: hasAnnounced,
            online: try store.flag(path.path + "/online"), adoptable: mayAdopt(own, theirs))
        switch step {
        case .wait where options.removesDirectories && own == .closed && isIdle:
            return try removeIfOver(store)
        case .wait: return false
        // A frontend that keeps coming back must not make us open a missing disk in a loop.
        case .announce where monotonicMilliseconds() < retryAt: return false
        case .adopt where monotonicMilliseconds() < retryAt: return false
        case .adopt: try adopt(store, frontend)
        case .announce: try announce(store)
        case .connect where try isWaitingForScript(store): return false
        case .connect: try connect(store, frontend)
        case .close: try store.switchState(of: path.path, to: .closing)
        case .disconnect:
            if queues.isEmpty {
                try store.switchState(of: path.path, to: .closed)
            } else {
                closeQueues()
            }
        case .refuse(let reason): try fail(store, 22, reason)
        // States that only a vif has; the machine never asks for them here.
        case .reconfigure, .resume: return false
        }
        return true
    }

    /// The frontend's directory. The toolstack names it; it must be one of the domain that the device is for (attacks.md D14).
    private func locateFrontend(_ store: StoreClient) throws(XenbusError) -> String {
        let frontend = try store.requiredText(path.path + "/frontend")
        let domain: UInt16 = try store.requiredNumber(path.path + "/frontend-id", in: 0...0x7FEF)
        guard DomainID(domain) == path.device.frontend, frontend.hasPrefix("/local/domain/\(domain)/") else {
            throw .malformed(
                MalformedNode(
                    path.path + "/frontend", "is \(StoreNumber.quote(frontend)), not in domain \(path.device.frontend)")
            )
        }
        if frontendPath != frontend {
            do throws(StoreError) { try store.watch(frontend + "/state", token: "frontend \(path.device)") } catch {
                throw .store(error)
            }
            frontendPath = frontend
        }
        return frontend
    }

    // MARK: Steps

    private func announce(_ store: StoreClient) throws(XenbusError) {
        // The script runs after state 2, so the disk is opened when the frontend connects.
        if try isWaitingForScript(store) {
            try publishOffer(store, [:])
            return
        }
        let script = options.waitsForScript ? try HotplugScript.read(from: store, at: path.path) : .none
        if case .failed(let reason) = script {
            try fail(store, 6, "the hot-plug script failed: \(reason)")
            return
        }
        var wanted = try DiskSettings.read(from: store, at: path.path)
        if case .done(let target?) = script { wanted.target = target }
        if disk == nil || settings != wanted {
            do throws(DiskOpenFailure) {
                disk = try openDisk(wanted)
                settings = wanted
                retryPause = 0
            } catch {
                retryPause = min(max(retryPause * 2, 250), 10_000)
                retryAt = monotonicMilliseconds() + retryPause
                try fail(store, error.number, error.description)
                return
            }
        }
        try publishOffer(store, ["hotplug-status": "connected"])
    }

    /// What a frontend may ask for, and state 2.
    private func publishOffer(_ store: StoreClient, _ more: [String: String]) throws(XenbusError) {
        let offer = options.offer
        let directory = path.path
        try store.atomically { access throws(XenbusError) in
            guard try access.text(directory + "/state") != nil else { return }
            try offer.write(to: access, at: directory)
            for (name, value) in more { try access.put("\(directory)/\(name)", value) }
            try access.put(directory + "/state", XenbusState.initWait.rawValue)
        }
        hasAnnounced = true
    }

    /// Removes the directory of a device that is closed for good; the one above it is the toolstack's.
    private func removeIfOver(_ store: StoreClient) throws(XenbusError) -> Bool {
        let directory = path.path
        return try store.atomically { access throws(XenbusError) in
            // An offline device only: another may come back. A missing node is no word of the toolstack's.
            guard try access.text(directory + "/online") == "0" else { return false }
            try access.discardNode(directory)
            return true
        }
    }

    private func isWaitingForScript(_ store: StoreClient) throws(XenbusError) -> Bool {
        guard options.waitsForScript, disk == nil else { return false }
        return try HotplugScript.read(from: store, at: path.path) == .running
    }

    private func connect(_ store: StoreClient, _ frontend: String) throws(XenbusError) {
        if disk == nil || !hasAnnounced {
            try announce(store)
            guard disk != nil else { return }
        }
        guard let disk, let settings else { return }
        let keys = try BlockRequestKeys.read(from: store, at: frontend, offer: options.offer)
        guard let abi = BlockABI(node: keys.abi, whenMissing: options.abiWhenMissing) else {
            throw .malformed(
                MalformedNode(
                    frontend + "/protocol", "is \(StoreNumber.quote(keys.abi ?? "")), which no ring here speaks"))
        }
        let properties = self.properties(of: disk, settings, keys)
        publishedSectors = properties.sectors
        let validator = makeValidator(properties, indirectSegments: options.offer.indirectSegments)
        let need = GrantNeed(keys, indirectSegments: Int(options.offer.indirectSegments))
        if let room = hypervisor.grantRoom() {
            if need.least > room.left {
                try fail(store, 28 /* ENOSPC */, need.refusal(room))
                return
            }
            grantsKept = need.kept(of: options.persistentGrantLimit, in: room)
            if properties.persistent, grantsKept < options.persistentGrantLimit {
                log("vbd \(path.device): keeps \(grantsKept) grants mapped a queue, not \(options.persistentGrantLimit): the limit is \(room)")
            }
        }
        do throws(DiskOpenFailure) {
            for (index, queue) in keys.queues.enumerated() {
                queues.append(try open(queue, index, abi, disk, validator, properties.persistent))
            }
        } catch {
            closeQueues()
            try fail(store, error.number, error.description)
            return
        }
        let directory = path.path
        try store.atomically { access throws(XenbusError) in
            guard try access.text(directory + "/state") != nil else { return }
            try properties.write(to: access, at: directory)
            try access.put(directory + "/state", XenbusState.connected.rawValue)
        }
        log(
            "vbd \(path.device): connected: \(disk.name), \(properties.sectors) sectors of 512 bytes, \(keys.queues.count) queues of "
                + "\(keys.queues[0].ring.count) ring pages, \(abi)\(properties.persistent ? ", persistent grants" : "")"
        )
    }

    func makeValidator(_ properties: BlockProperties, indirectSegments: UInt32) -> BlockRequestValidator {
        BlockRequestValidator(
            sectorCount: properties.sectors, logicalSectorSize: Int(properties.sectorSize),
            isReadOnly: properties.info.contains(.readOnly), maximumIndirectSegments: Int(indirectSegments),
            discard: properties.discard.map { $0.secure ? .secure : .plain } ?? .none, offersFlush: properties.flush,
            offersBarrier: properties.barrier)
    }

    private func properties(of disk: any BlockDevice, _ settings: DiskSettings, _ keys: BlockRequestKeys)
        -> BlockProperties
    {
        let geometry = disk.geometry
        var info: BlockDeviceInfo = []
        if settings.isCDROM { info.insert(.cdrom) }
        if settings.isRemovable { info.insert(.removable) }
        if !settings.isWritable || geometry.isReadOnly { info.insert(.readOnly) }
        let flush = options.flush && geometry.canFlush
        var discard: DiscardKeys?
        if options.discard, settings.discard != false, !info.contains(.readOnly), let limits = geometry.discard {
            discard = DiscardKeys(granularity: limits.granularity, alignment: limits.alignment, secure: limits.secure)
        }
        return BlockProperties(
            sectors: geometry.byteCount / 512, sectorSize: geometry.logicalSectorSize,
            physicalSectorSize: geometry.physicalSectorSize, info: info, flush: flush,
            barrier: options.barrier && flush && keys.queues.count == 1, discard: discard,
            persistent: options.persistentGrants && keys.persistent)
    }

    private func open(
        _ keys: QueueKeys, _ index: Int, _ abi: BlockABI, _ disk: any BlockDevice, _ validator: BlockRequestValidator,
        _ persistent: Bool
    ) throws(DiskOpenFailure) -> (BackendQueue, Reactor) {
        let (rings, channel) = try connectRing(keys, index, isAdopted: false)
        var memory: SharedRegion?
        if let journals {
            let slots = RingGeometry(byteCount: rings.region.byteCount, slotSize: BlockRing(abi).slotSize).slotCount
            // A device without a journal is served; it only does not survive this process unnoticed.
            do throws(Errno) {
                let region = try journals.create(path, queue: index, slots: slots)
                RingJournal.begin(
                    in: region, identity: RingIdentity(abi: abi, keys: .init(references: keys.ring, port: keys.port)),
                    slots: slots)
                memory = region
            } catch { log("vbd \(path.device): no journal in \(journals.path): \(error)") }
        }
        return try start(index, rings, channel, abi, disk, validator, persistent, .fresh(journal: memory))
    }

    /// Maps a queue's ring and binds its channel.
    /// - Parameter isAdopted: a predecessor's port may still be closing: then it is tried for two seconds.
    func connectRing(
        _ keys: QueueKeys, _ index: Int, isAdopted: Bool
    ) throws(DiskOpenFailure) -> (any ContiguousGrants, any EventChannel) {
        let frontend = path.device.frontend
        do throws(HypervisorError) {
            let rings = try hypervisor.mapContiguous(keys.ring, of: frontend, access: .readWrite)
            var attempts = isAdopted ? 100 : 1
            while true {
                do throws(HypervisorError) {
                    return (rings, try hypervisor.bindChannel(remote: frontend, port: keys.port))
                } catch {
                    attempts -= 1
                    if attempts == 0 {
                        rings.unmap()
                        throw error
                    }
                    sleepMilliseconds(20)
                }
            }
        } catch { throw DiskOpenFailure(number: 22, "queue \(index): \(error)") }
    }

    /// Starts a queue on the next reactor.
    func start(
        _ index: Int, _ rings: any ContiguousGrants, _ channel: any EventChannel, _ abi: BlockABI,
        _ disk: any BlockDevice,
        _ validator: BlockRequestValidator, _ persistent: Bool, _ start: QueueStart
    ) throws(DiskOpenFailure) -> (BackendQueue, Reactor) {
        let reactor = nextReactor()
        let (hypervisor, report, device, frontend) = (self.hypervisor, self.report, path.device, path.device.frontend)
        let limit = persistent ? min(grantsKept, options.persistentGrantLimit) : nil
        let dma = options.dma
        let made = reactor.run { () -> Result<BackendQueue, Errno> in
            do throws(Errno) {
                return .success(
                    try BackendQueue(
                        reactor: reactor, channel: channel, rings: rings, abi: abi, device: disk, validator: validator,
                        persistentGrants: limit, dma: dma, frontend: frontend, hypervisor: hypervisor, start: start,
                        report: { report(device, $0) }))
            } catch { return .failure(error) }
        }
        switch made {
        case .success(let queue): return (queue, reactor)
        case .failure(let error):
            channel.close()
            rings.unmap()
            throw DiskOpenFailure(number: error.rawValue, "queue \(index): \(disk.name): \(error)")
        }
    }

    /// Tells every queue to end what is in work and give everything back; `follow` goes on when all have.
    /// - Parameter handingOver: a successor is to go on with the same rings, so the journals stay.
    func closeQueues(handingOver: Bool = false) {
        if !handingOver { journals?.remove(path) }
        draining += queues.count
        for (queue, reactor) in queues { reactor.post { queue.close() } }
        queues = []
    }

    /// Leaves the reason in the error node, closes, and lets go of the frontend's pages: this device is out until its frontend goes
    /// through a close cycle; the others serve on.
    private func fail(_ store: StoreClient, _ number: Int32, _ message: String) throws(XenbusError) {
        // Said once, however often it happens.
        if message != lastMessage { log("vbd \(path.device): \(message)") }
        lastMessage = message
        closeQueues()
        try store.fail(path.path, errorNode: path.errorNode, number: number, message)
    }

    // MARK: News

    /// Acts on what a queue reported.
    func handle(_ news: QueueReport, _ store: StoreClient) throws(XenbusError) {
        switch news {
        case .closed: draining -= 1
        case .broken(let reason): try fail(store, 22, "the frontend broke its ring: \(reason)")
        case .shortage(let what):
            let message = "requests fail: \(what)"
            if message != lastMessage { log("vbd \(path.device): \(message)") }
            lastMessage = message
            try store.complain(path.path, errorNode: path.errorNode, number: 28 /* ENOSPC */, message)
        case .lostFlush:
            try store.put(path.path + "/feature-flush-cache", 0)
            try store.put(path.path + "/feature-barrier", 0)
        case .lostDiscard: try store.put(path.path + "/feature-discard", 0)
        }
    }

    /// Looks whether the disk has another size now, and tells the frontend by rewriting `sectors` and the state, which stays what it
    /// is (item 20).
    func pollSize(_ store: StoreClient) throws(XenbusError) {
        guard !queues.isEmpty, let disk else { return }
        let old = publishedSectors
        guard let bytes = try? disk.refreshGeometry().byteCount, bytes / 512 != old else { return }
        let new = bytes / 512
        publishedSectors = new
        for (queue, reactor) in queues { reactor.post { queue.resize(sectors: new) } }
        let directory = path.path
        try store.atomically { access throws(XenbusError) in
            guard let state = try access.text(directory + "/state") else { return }
            try access.put(directory + "/sectors", new)
            try access.put(directory + "/state", state)
        }
        log("vbd \(path.device): \(disk.name) has \(new) sectors of 512 bytes now, \(old) before")
    }

    /// `1/51712: connected, 2 queues`.
    var description: String {
        "\(path.device): \(queues.isEmpty ? (draining > 0 ? "closing" : "idle") : "connected, \(queues.count) queues")"
    }

    /// The watch on the frontend's state, to be taken back.
    func forgetFrontend(_ store: StoreClient) {
        if let frontendPath { try? store.unwatch(frontendPath + "/state", token: "frontend \(path.device)") }
        frontendPath = nil
    }
}
