// One vbd on the control thread: opens its disk, connects its frontend's rings, reports what went wrong. Its queues run
// elsewhere.

import BlockDevices
import BlockProtocol
import DMA
import DeviceFaults
import DriverRuntime
import Hypervisor
import LinuxSystem
import Reactor
import SharedMemory
import SharedRing
import XenBus
import XenStore
import XenTypes

/// Opens the disk that a directory names; throws one line that names it and the reason.
public typealias DiskOpener = @Sendable (DiskSettings) throws(DeviceOpenFailure) -> any BlockDevice

/// The control thread's view of one vbd.
final class DiskDriver: BackendDriver {
    typealias News = QueueReport
    let path: BackendPath
    let hypervisor: any Hypervisor
    let options: BlockBackendOptions
    let openDisk: DiskOpener
    /// Where this process leaves what a successor needs; nil: nowhere.
    let journals: JournalDirectory?
    private let nextReactor: () -> Reactor
    private let report: @Sendable (QueueReport) -> Void
    /// Connections that ended: news of an earlier one are not of this one.
    private var connections = 0
    let log: (String) -> Void

    /// What is to go wrong on purpose, whoever connects; nil: nothing may.
    let faults: FaultBook?
    /// Requests of a predecessor that are done again.
    var takenOver = 0
    /// What the frontend was told of the disk's size.
    var publishedSectors: UInt64 = 0
    /// Bytes at the disk's end that are no whole sector and have been told of.
    private var notedRest: UInt64 = 0
    /// The most grants that a queue keeps mapped here, where there is not room for what the options say.
    private var grantsKept = Int.max
    private var lastShortage = ""
    /// Whether it was connected in this process's life.
    private var wasConnected = false
    /// Queues that are closing: what the disk failed at the end is to be told, too.
    private var ending: [BackendQueue] = []
    private var failureLog = FailureLog()
    /// Of the queues that are closing, those that have closed.
    private var closed = 0
    var queues: [(queue: BackendQueue, reactor: Reactor)] = []
    var settings: DiskSettings?
    var disk: (any BlockDevice)? { didSet { if disk !== oldValue { exporter?.changed(path.device, disk) } } }
    /// Another way to the disk; nil: there is none.
    private let exporter: (any DeviceExporter<any BlockDevice>)?
    /// The disk, while it is being opened.
    var opening: DiskOpening?
    /// Whether the error node says that it is waited for.
    var hasToldWaiting = false
    /// One for all queues of the disk; each has an area in it.
    private var bouncePool: BouncePool?
    /// Queues of the connection that is being made: those that share the pool.
    var connecting = 1

    init(
        path: BackendPath, hypervisor: any Hypervisor, options: BlockBackendOptions, journals: JournalDirectory?,
        openDisk: @escaping DiskOpener, exporter: (any DeviceExporter<any BlockDevice>)?,
        nextReactor: @escaping () -> Reactor, report: @escaping @Sendable (QueueReport) -> Void,
        log: @escaping (String) -> Void
    ) {
        self.path = path
        self.hypervisor = hypervisor
        self.options = options
        faults = options.takesFaults ? FaultBook(.block, .back) : nil
        self.journals = journals
        self.openDisk = openDisk
        self.exporter = exporter
        self.nextReactor = nextReactor
        self.report = report
        self.log = log
    }

    var holdsRings: Bool { !queues.isEmpty }
    var isOpen: Bool { disk != nil }
    var removesDirectories: Bool { options.removesDirectories }
    var handsOver: Bool { journals != nil }

    // MARK: Steps

    func isWaiting(_ store: StoreClient) throws(DriverFailure) -> Bool {
        guard options.waitsForScript, disk == nil else { return false }
        return try script(store) == .running
    }

    private func script(_ store: StoreClient) throws(DriverFailure) -> HotplugScript {
        guard options.waitsForScript else { return .none }
        do throws(XenbusError) { return try HotplugScript.read(from: store, at: path.path) } catch { throw .xenbus(error) }
    }

    func announce(_ store: StoreClient) throws(DriverFailure) {
        // The script runs after state 2, so the disk is opened when the frontend connects.
        if try isWaiting(store) { return try publishOffer(store, [:]) }
        var wanted: DiskSettings
        do throws(XenbusError) { wanted = try DiskSettings.read(from: store, at: path.path) } catch { throw .xenbus(error) }
        switch try script(store) {
        case .failed(let reason): throw .refused(.noSuchAddressOrDevice, "the hot-plug script failed: \(reason)")
        case .done(let target?): wanted.target = target
        case .done(nil), .none, .running: break
        }
        if disk == nil || settings != wanted {
            // What the old one had locked would be in the new one's way.
            disk = nil
            var taken = wanted
            taken.isTakenOver = exporter?.isLeft(path.device) == true
            disk = try open(taken, store)
            settings = wanted
        }
        try publishOffer(store, ["hotplug-status": "connected"])
    }

    /// What a frontend may ask for, and state 2.
    private func publishOffer(_ store: StoreClient, _ more: [String: String]) throws(DriverFailure) {
        let offer = offer
        let directory = path.path
        do throws(XenbusError) {
            try store.atomically { access throws(XenbusError) in
                guard try access.text(directory + "/state") != nil else { return }
                try offer.write(to: access, at: directory)
                for (name, value) in more { try access.put("\(directory)/\(name)", value) }
                try access.put(directory + "/state", XenbusState.initWait.rawValue)
            }
        } catch { throw .xenbus(error) }
    }

    func connect(_ store: StoreClient, _ frontend: String) throws(DriverFailure) {
        try takeUse()
        defer { if queues.isEmpty { releaseUse() } }
        guard let disk, let settings else { throw .refused(.noSuchDevice, "no disk is open") }
        let (keys, abi) = try readKeys(store, frontend)
        let properties = BlockProperties(of: disk.geometry, settings, keys, options)
        publishedSectors = properties.sectors
        let agreed = DiskAgreement(keys, abi, properties, indirectSegments: options.offer.indirectSegments)
        try reserveGrants(keys, properties.persistent)
        connecting = keys.queues.count
        for index in keys.queues.indices { queues.append(try open(index, agreed, disk)) }
        let directory = path.path
        do throws(XenbusError) {
            try store.atomically { access throws(XenbusError) in
                guard try access.text(directory + "/state") != nil else { return }
                try properties.write(to: access, at: directory)
                try access.put(directory + "/state", XenbusState.connected.rawValue)
            }
        } catch { throw .xenbus(error) }
        wasConnected = true
        note(
            "vbd \(path.device): connected: \(disk.name), \(properties.sectors) sectors of 512 bytes, \(keys.queues.count) queues of "
                + "\(keys.queues[0].ring.count) ring pages, \(abi)\(properties.persistent ? ", persistent grants" : "")")
    }

    /// The disk is its frontend's from now on.
    func takeUse() throws(DriverFailure) {
        guard exporter?.use(of: path.device).take(for: .frontend) != false else {
            throw .refused(.busy, "\(disk?.name ?? "the disk") is in use by another driver, which came another way")
        }
    }

    func releaseUse() { exporter?.use(of: path.device).release(by: .frontend) }

    /// Holds what the device needs against what can be mapped: too little is a refusal, less than it would keep mapped
    /// a smaller cache.
    private func reserveGrants(_ keys: BlockRequestKeys, _ persistent: Bool) throws(DriverFailure) {
        guard let room = hypervisor.grantRoom() else { return }
        let need = GrantNeed(keys, indirectSegments: Int(options.offer.indirectSegments))
        guard need.least <= room.left else { throw .refused(.noSpace, need.refusal(room)) }
        grantsKept = need.kept(of: options.persistentGrantLimit, in: room)
        if persistent, grantsKept < options.persistentGrantLimit {
            note(
                "vbd \(path.device): keeps \(grantsKept) grants mapped a queue, not \(options.persistentGrantLimit): the limit is \(room)"
            )
        }
    }

    private func readKeys(_ store: StoreClient, _ frontend: String) throws(DriverFailure) -> (BlockRequestKeys, BlockABI) {
        do throws(XenbusError) {
            let keys = try BlockRequestKeys.read(from: store, at: frontend, offer: offer)
            guard let abi = BlockABI(node: keys.abi, whenMissing: options.abiWhenMissing) else {
                throw .malformed(
                    MalformedNode(frontend + "/protocol", "is \(StoreNumber.quote(keys.abi ?? "")), which no ring here speaks"))
            }
            return (keys, abi)
        } catch { throw .xenbus(error) }
    }

    private func open(
        _ index: Int, _ agreed: DiskAgreement, _ disk: any BlockDevice
    ) throws(DriverFailure) -> (BackendQueue, Reactor) {
        let (keys, abi) = (agreed.keys.queues[index], agreed.abi)
        let (rings, channel) = try connectRing(keys, index, isAdopted: false)
        var memory: SharedRegion?
        if let journals {
            let slots = RingGeometry(byteCount: rings.region.byteCount, slotSize: BlockRing(abi).slotSize).slotCount
            memory = journals.create(path, .queue(index), byteCount: RingJournal.Layout.byteCount(slots: slots)) {
                log("vbd \(path.device): \($0)")
            }
            if let memory {
                let identity = RingIdentity(abi: abi, keys: .init(references: keys.ring, port: keys.port))
                RingJournal.begin(in: memory, identity: identity, slots: slots)
            }
        }
        return try start(index, agreed, disk, rings, channel, .fresh(journal: memory))
    }

    /// Maps a queue's ring and binds its channel.
    /// - Parameter isAdopted: a predecessor's port may still be closing: then it is tried for two seconds.
    func connectRing(
        _ keys: QueueKeys, _ index: Int, isAdopted: Bool
    ) throws(DriverFailure) -> (any ContiguousGrants, any EventChannel) {
        let frontend = path.device.frontend
        do throws(HypervisorError) {
            let rings = try hypervisor.mapContiguous(keys.ring, of: frontend, access: .readWrite)
            do throws(HypervisorError) {
                let channel = try hypervisor.bindChannel(remote: frontend, port: keys.port, isAdopted: isAdopted)
                let (report, connection) = (report, connections)
                channel.whenPeerCloses { report(.frontendGone(connection: connection)) }
                return (rings, channel)
            } catch {
                rings.unmap()
                throw error
            }
        } catch { throw .refused(.invalidArgument, "queue \(index): \(error)") }
    }

    /// Starts a queue on the next reactor.
    func start(
        _ index: Int, _ agreed: DiskAgreement, _ disk: any BlockDevice, _ rings: any ContiguousGrants, _ channel: any EventChannel,
        _ start: RingStart
    ) throws(DriverFailure) -> (BackendQueue, Reactor) {
        let reactor = nextReactor()
        let (hypervisor, report, frontend) = (self.hypervisor, self.report, path.device.frontend)
        let limit = agreed.persistent ? min(grantsKept, options.persistentGrantLimit) : nil
        let (dma, faults) = (options.dma, faults)
        // Made anew with each connection: the next one may have more queues.
        if queues.isEmpty, dma.bouncePool > 0 {
            bouncePool = BouncePool(name: disk.name, byteCount: dma.bouncePool, sharers: connecting)
        }
        let pool = bouncePool
        let made = reactor.run { () -> Result<BackendQueue, DriverFailure> in
            do throws(DMAError) {
                let device = try DMADevice(name: disk.name, options: dma, pool: pool)
                do throws(Errno) {
                    return .success(
                        try BackendQueue(
                            QueuePlan(
                                reactor: reactor, channel: channel, rings: rings, abi: agreed.abi, device: disk,
                                validator: agreed.validator, persistentGrants: limit, dma: device, frontend: frontend,
                                hypervisor: hypervisor, start: start, faults: faults),
                            report: report))
                } catch { return .failure(.refused(error, "queue \(index): \(disk.name): \(error)")) }
            } catch { return .failure(.refused(.noMemory, "queue \(index): \(error)")) }
        }
        switch made {
        case .success(let queue): return (queue, reactor)
        case .failure(let error):
            channel.close()
            rings.unmap()
            throw error
        }
    }

    func closeQueues(handingOver: Bool) -> Int {
        if !handingOver { journals?.remove(path) }
        defer { queues = [] }
        connections += 1
        ending += queues.map(\.queue)
        for (queue, reactor) in queues { reactor.post { queue.close() } }
        return queues.count
    }

    func letGo() {
        opening?.abandon()
        opening = nil
        disk = nil
    }

    /// What a kill leaves, for simulations.
    func forsake() { for queue in queues.map(\.queue) + ending { queue.forsake() } }

    // MARK: News

    func handle(_ news: QueueReport, _ store: StoreClient) throws(DriverFailure) -> Int {
        let lost: [String]
        switch news {
        case .closed:
            tellFailures(store)
            connectionEnds()
            return 1
        case .broken(let reason): throw .refused(.invalidArgument, "the frontend broke its ring: \(reason)")
        case .shortage(let what):
            try complain(store, "requests fail: \(what)")
            return 0
        case .sizeWanted:
            do throws(XenbusError) { try pollSize(store) } catch { throw .xenbus(error) }
            return 0
        case .lostFlush: lost = ["feature-flush-cache", "feature-barrier"]
        case .lostDiscard: lost = ["feature-discard"]
        case .frontendGone(let connection):
            guard connection == connections, holdsRings else { return 0 }
            throw .frontendGone
        case .trouble(let text):
            log("vbd \(path.device): \(disk?.name ?? "closed disk"): \(text)")
            return 0
        }
        do throws(XenbusError) { for name in lost { try store.put("\(path.path)/\(name)", 0) } } catch { throw .xenbus(error) }
        return 0
    }

    var leavesErrors: Bool { options.leavesAttachErrors && !wasConnected }

    /// One line for the log that tells of nothing wrong.
    func note(_ line: String) { (options.notes ?? log)(line) }

    /// Leaves an error's text where people look, once; the device goes on.
    private func complain(_ store: StoreClient, _ message: String) throws(DriverFailure) {
        if message != lastShortage { log("vbd \(path.device): \(message)") }
        lastShortage = message
        do throws(XenbusError) {
            try store.complain(path.path, errorNode: path.errorNode, number: Errno.noSpace.rawValue, message)
        } catch { throw .xenbus(error) }
    }

    func tick(_ store: StoreClient) throws(DriverFailure) {
        tellFailures(store)
        do throws(XenbusError) { try pollSize(store) } catch { throw .xenbus(error) }
    }

    /// Says what the disk failed since this was last asked: the frontend only learns that something did.
    private func tellFailures(_ store: StoreClient) {
        for line in failureLog.news(of: (queues.map(\.queue) + ending).map(\.failures)) {
            log("vbd \(path.device): \(disk?.name ?? "closed disk"): \(line.text)")
            try? store.complain(path.path, errorNode: path.errorNode, number: line.reason.rawValue, line.text)
        }
    }

    /// One queue has closed; with the last the count begins anew.
    private func connectionEnds() {
        closed += 1
        guard closed == ending.count, queues.isEmpty else { return }
        closed = 0
        ending = []
        releaseUse()
        failureLog = FailureLog()
    }

    /// Looks whether the disk has another size now, and tells the frontend by rewriting `sectors` and the state, which
    /// stays what it is (protocol-rules.md 20).
    private func pollSize(_ store: StoreClient) throws(XenbusError) {
        guard !queues.isEmpty, let disk else { return }
        let old = publishedSectors
        guard let geometry = try? disk.refreshGeometry() else { return }
        noteRest(geometry.partSector, of: disk)
        let new = geometry.byteCount / 512
        if new == old { return }
        publishedSectors = new
        for (queue, reactor) in queues { reactor.post { queue.resize(sectors: new) } }
        let directory = path.path
        try store.atomically { access throws(XenbusError) in
            guard let state = try access.text(directory + "/state") else { return }
            try access.put(directory + "/sectors", new)
            try access.put(directory + "/state", state)
        }
        note("vbd \(path.device): \(disk.name) has \(new) sectors of 512 bytes now, \(old) before")
    }

    /// Says what part of a sector has come to be at the disk's end, whether or not its whole sectors are others.
    private func noteRest(_ rest: UInt64, of disk: any BlockDevice) {
        guard rest != notedRest else { return }
        notedRest = rest
        if rest != 0 {
            log("vbd \(path.device): \(disk.name): \(rest) bytes at its end are less than a sector, and out of reach")
        }
    }
}
