// One vbd on the control thread: opens its disk, connects its frontend's rings, reports what went wrong. Its queues run elsewhere.

import DMA
import DriverSupport
import Glibc
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
    let log: (String) -> Void

    /// Requests of a predecessor that are done again.
    var takenOver = 0
    /// What the frontend was told of the disk's size.
    var publishedSectors: UInt64 = 0
    /// The most grants that a queue keeps mapped here, where there is not room for what the options say.
    private var grantsKept = Int.max
    private var lastShortage = ""
    var queues: [(queue: BackendQueue, reactor: Reactor)] = []
    var settings: DiskSettings?
    var disk: (any BlockDevice)?
    /// One for all queues of the disk; each has an area in it.
    private var bouncePool: BouncePool?

    init(
        path: BackendPath, hypervisor: any Hypervisor, options: BlockBackendOptions, journals: JournalDirectory?,
        openDisk: @escaping DiskOpener, nextReactor: @escaping () -> Reactor, report: @escaping @Sendable (QueueReport) -> Void,
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
        case .failed(let reason): throw .refused(number: 6, "the hot-plug script failed: \(reason)")
        case .done(let target?): wanted.target = target
        case .done(nil), .none, .running: break
        }
        if disk == nil || settings != wanted {
            do throws(DeviceOpenFailure) { disk = try openDisk(wanted) } catch {
                throw .unavailable(number: error.number, error.description)
            }
            settings = wanted
        }
        try publishOffer(store, ["hotplug-status": "connected"])
    }

    /// What a frontend may ask for, and state 2.
    private func publishOffer(_ store: StoreClient, _ more: [String: String]) throws(DriverFailure) {
        let offer = options.offer
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
        guard let disk, let settings else { throw .refused(number: 19, "no disk is open") }
        let (keys, abi) = try readKeys(store, frontend)
        let properties = self.properties(of: disk, settings, keys)
        publishedSectors = properties.sectors
        let validator = makeValidator(properties, indirectSegments: options.offer.indirectSegments)
        try reserveGrants(keys, properties.persistent)
        for (index, queue) in keys.queues.enumerated() {
            queues.append(try open(queue, index, abi, disk, validator, properties.persistent))
        }
        let directory = path.path
        do throws(XenbusError) {
            try store.atomically { access throws(XenbusError) in
                guard try access.text(directory + "/state") != nil else { return }
                try properties.write(to: access, at: directory)
                try access.put(directory + "/state", XenbusState.connected.rawValue)
            }
        } catch { throw .xenbus(error) }
        log(
            "vbd \(path.device): connected: \(disk.name), \(properties.sectors) sectors of 512 bytes, \(keys.queues.count) queues of "
                + "\(keys.queues[0].ring.count) ring pages, \(abi)\(properties.persistent ? ", persistent grants" : "")")
    }

    /// Holds what the device needs against what can be mapped: too little is a refusal, less than it would keep mapped a smaller cache.
    private func reserveGrants(_ keys: BlockRequestKeys, _ persistent: Bool) throws(DriverFailure) {
        guard let room = hypervisor.grantRoom() else { return }
        let need = GrantNeed(keys, indirectSegments: Int(options.offer.indirectSegments))
        guard need.least <= room.left else { throw .refused(number: 28 /* ENOSPC */, need.refusal(room)) }
        grantsKept = need.kept(of: options.persistentGrantLimit, in: room)
        if persistent, grantsKept < options.persistentGrantLimit {
            log(
                "vbd \(path.device): keeps \(grantsKept) grants mapped a queue, not \(options.persistentGrantLimit): the limit is \(room)"
            )
        }
    }

    private func readKeys(_ store: StoreClient, _ frontend: String) throws(DriverFailure) -> (BlockRequestKeys, BlockABI) {
        do throws(XenbusError) {
            let keys = try BlockRequestKeys.read(from: store, at: frontend, offer: options.offer)
            guard let abi = BlockABI(node: keys.abi, whenMissing: options.abiWhenMissing) else {
                throw .malformed(
                    MalformedNode(frontend + "/protocol", "is \(StoreNumber.quote(keys.abi ?? "")), which no ring here speaks"))
            }
            return (keys, abi)
        } catch { throw .xenbus(error) }
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
    ) throws(DriverFailure) -> (BackendQueue, Reactor) {
        let (rings, channel) = try connectRing(keys, index, isAdopted: false)
        var memory: SharedRegion?
        if let journals {
            let slots = RingGeometry(byteCount: rings.region.byteCount, slotSize: BlockRing(abi).slotSize).slotCount
            // A device without a journal is served; it only does not survive this process unnoticed.
            do throws(Errno) {
                let region = try journals.create(
                    path, .queue(index), byteCount: RingJournal.Layout.byteCount(slots: slots))
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
    ) throws(DriverFailure) -> (any ContiguousGrants, any EventChannel) {
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
        } catch { throw .refused(number: 22, "queue \(index): \(error)") }
    }

    /// Starts a queue on the next reactor.
    func start(
        _ index: Int, _ rings: any ContiguousGrants, _ channel: any EventChannel, _ abi: BlockABI,
        _ disk: any BlockDevice,
        _ validator: BlockRequestValidator, _ persistent: Bool, _ start: QueueStart
    ) throws(DriverFailure) -> (BackendQueue, Reactor) {
        let reactor = nextReactor()
        let (hypervisor, report, frontend) = (self.hypervisor, self.report, path.device.frontend)
        let limit = persistent ? min(grantsKept, options.persistentGrantLimit) : nil
        let dma = options.dma
        // Made anew with each connection: the next one may have more queues.
        if queues.isEmpty, dma.bouncePool > 0 {
            bouncePool = BouncePool(name: disk.name, byteCount: dma.bouncePool, sharers: Int(options.queues))
        }
        let pool = bouncePool
        let made = reactor.run { () -> Result<BackendQueue, DriverFailure> in
            do throws(DMAError) {
                let device = try DMADevice(name: disk.name, options: dma, pool: pool)
                do throws(Errno) {
                    return .success(
                        try BackendQueue(
                            reactor: reactor, channel: channel, rings: rings, abi: abi, device: disk, validator: validator,
                            persistentGrants: limit, dma: device, frontend: frontend, hypervisor: hypervisor, start: start,
                            report: report))
                } catch { return .failure(.refused(number: error.rawValue, "queue \(index): \(disk.name): \(error)")) }
            } catch { return .failure(.refused(number: ENOMEM, "queue \(index): \(error)")) }
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
        for (queue, reactor) in queues { reactor.post { queue.close() } }
        return queues.count
    }

    func letGo() { disk = nil }

    // MARK: News

    func handle(_ news: QueueReport, _ store: StoreClient) throws(DriverFailure) -> Int {
        let lost: [String]
        switch news {
        case .closed: return 1
        case .broken(let reason): throw .refused(number: 22, "the frontend broke its ring: \(reason)")
        case .shortage(let what):
            try complain(store, "requests fail: \(what)")
            return 0
        case .lostFlush: lost = ["feature-flush-cache", "feature-barrier"]
        case .lostDiscard: lost = ["feature-discard"]
        case .trouble(let text):
            log("vbd \(path.device): \(disk?.name ?? "closed disk"): \(text)")
            return 0
        }
        do throws(XenbusError) { for name in lost { try store.put("\(path.path)/\(name)", 0) } } catch { throw .xenbus(error) }
        return 0
    }

    /// Leaves an error's text where people look, once; the device goes on.
    private func complain(_ store: StoreClient, _ message: String) throws(DriverFailure) {
        if message != lastShortage { log("vbd \(path.device): \(message)") }
        lastShortage = message
        do throws(XenbusError) {
            try store.complain(path.path, errorNode: path.errorNode, number: 28 /* ENOSPC */, message)
        } catch { throw .xenbus(error) }
    }

    func tick(_ store: StoreClient) throws(DriverFailure) {
        do throws(XenbusError) { try pollSize(store) } catch { throw .xenbus(error) }
    }

    /// Looks whether the disk has another size now, and tells the frontend by rewriting `sectors` and the state, which stays what it
    /// is (item 20).
    private func pollSize(_ store: StoreClient) throws(XenbusError) {
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
}
