// Taking over a device that a predecessor of this process served: its frontend, which never heard that anything
// happened, goes on with the same rings and the same port. What was agreed stands in the store; what was under way
// stands in the journals.

import BlockDevices
import BlockProtocol
import DriverRuntime
import Hypervisor
import LinuxSystem
import Reactor
import SharedMemory
import SharedRing
import XenBus
import XenStore

/// What one queue begins with.
enum RingStart: Sendable {
    /// A new ring, with memory for a journal if one is kept.
    case fresh(journal: SharedRegion?)
    /// A predecessor's ring.
    case resumed(journal: SharedRegion, RingRecovery)
}

extension DiskDriver {
    func canAdopt() -> Bool { journals?.has(path) ?? false }

    func adopt(_ store: StoreClient, _ frontend: String) throws(DriverFailure) {
        let disk = try openForAdoption(store)
        try takeUse()
        defer { if queues.isEmpty { releaseUse() } }
        let agreed = try agreement(store, frontend)
        connecting = agreed.keys.queues.count
        for index in agreed.keys.queues.indices { queues.append(try resume(index, agreed, disk)) }
        note("vbd \(path.device): taken over: \(disk.name), \(queues.count) queues; \(takenOver) requests are done again")
    }

    private func openForAdoption(_ store: StoreClient) throws(DriverFailure) -> any BlockDevice {
        if let disk { return disk }
        var wanted: DiskSettings
        do throws(XenbusError) {
            wanted = try DiskSettings.read(from: store, at: path.path)
            if options.waitsForScript, case .done(let target?) = try HotplugScript.read(from: store, at: path.path) {
                wanted.target = target
            }
        } catch { throw .xenbus(error) }
        var taken = wanted
        taken.isTakenOver = true
        let opened = try open(taken, store)
        disk = opened
        settings = wanted
        return opened
    }

    /// What both sides agreed on, read back: this process's own options may be others.
    private func agreement(_ store: StoreClient, _ frontend: String) throws(DriverFailure) -> DiskAgreement {
        do throws(XenbusError) {
            let offer = try BlockOffer.read(from: store, at: path.path)
            let properties = try BlockProperties.read(from: store, at: path.path)
            let keys = try BlockRequestKeys.read(from: store, at: frontend, offer: offer)
            guard let abi = BlockABI(node: keys.abi, whenMissing: options.abiWhenMissing) else {
                throw .malformed(MalformedNode(frontend + "/protocol", "names no ring layout"))
            }
            // A disk that was resized meanwhile shows at the next poll.
            publishedSectors = properties.sectors
            return DiskAgreement(keys, abi, properties, indirectSegments: offer.indirectSegments)
        } catch { throw .xenbus(error) }
    }

    private func resume(
        _ index: Int, _ agreed: DiskAgreement, _ disk: any BlockDevice
    ) throws(DriverFailure) -> (BackendQueue, Reactor) {
        let keys = agreed.keys.queues[index]
        guard let memory = journals?.open(path, .queue(index)) else {
            throw .refused(.noSuchFile, "queue \(index): \(RecoveryError.noJournal)")
        }
        let identity = RingIdentity(abi: agreed.abi, keys: .init(references: keys.ring, port: keys.port))
        let (rings, channel) = try connectRing(keys, index, isAdopted: true)
        let slots = RingGeometry(byteCount: rings.region.byteCount, slotSize: BlockRing(agreed.abi).slotSize).slotCount
        let recovery: RingRecovery
        do throws(RecoveryError) {
            recovery = try RingRecovery(
                journal: memory, identity: identity, slots: slots,
                responseProduced: rings.region.loadAcquiring(RingHeader.responseProduced))
        } catch {
            channel.close()
            rings.unmap()
            throw .refused(.invalidArgument, "queue \(index): \(error)")
        }
        takenOver += recovery.unanswered.count
        return try start(index, agreed, disk, rings, channel, .resumed(journal: memory, recovery))
    }
}
