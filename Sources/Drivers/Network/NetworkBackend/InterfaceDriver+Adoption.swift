// Taking over an interface that a predecessor of this process served: its frontend, which never heard that anything
// happened, goes on with the same rings and the same ports. What was agreed stands in the store; what was under way,
// and what was set, in the journals.

import DriverRuntime
import Hypervisor
import NetworkProtocol
import SharedMemory
import SharedRing
import XenBus
import XenStore

extension InterfaceDriver {
    /// A journal of the first queue stands for all.
    func canAdopt() -> Bool { journals?.has(path) ?? false }

    func adopt(_ store: StoreClient, _ frontend: String) throws(DriverFailure) {
        try open(store, try hotplug(store))
        guard let device, let settings else { throw .refused(.noSuchDevice, "no device") }
        try takeUse()
        defer { if engine == nil { releaseUse() } }
        let keys: NetworkRequestKeys
        var features: NetworkFeatures
        do throws(XenbusError) {
            // What both sides agreed on, read back: this process's own options may be others.
            let offer = try NetworkOffer.read(from: store, at: path.path)
            keys = try NetworkRequestKeys.read(from: store, at: frontend, offer: offer)
            features = keys.features
            features.formIntersection(offer.features)
        } catch { throw .xenbus(error) }
        features = features.consistent
        do { try device.setOffloads(features.abilities.deviceOffloads) } catch {
            throw .refused(error, "\(device.name): setting offloads: \(error)")
        }
        limitMTU(of: device, features)
        let engine = try makeEngine(keys, features, device, settings, .adopted)
        self.engine = engine
        device.settle()
        do throws(XenbusError) { try writeCarrier(store) } catch { throw .xenbus(error) }
        traces.connected(path.device, engine.trace)
        note(
            "vif \(path.device): taken over: \(device.name), \(keys.queues.count) queues, \(features); \(engine.lostSlots) slots were lost"
        )
    }

    /// What each queue begins with.
    func starts(
        _ start: InterfaceStart, _ keys: NetworkRequestKeys, _ resources: ConnectionResources
    ) throws(RecoveryError) -> [QueueStart] {
        var starts: [QueueStart] = []
        for (index, queue) in keys.queues.enumerated() {
            switch start {
            case .fresh: starts.append(.fresh(journal(queue, index)))
            case .adopted:
                guard let memory = journals?.open(path, .queue(index)) else { throw .noJournal }
                let rings = resources.queues[index]
                let recovery = try InterfaceRecovery(
                    journal: memory, of: queue, transmitRing: rings.transmit.region, receiveRing: rings.receive.region)
                starts.append(.resumed(InterfaceJournal(resuming: memory), recovery))
            }
        }
        return starts
    }

    /// What the control ring begins with.
    func controlStart(
        _ start: InterfaceStart, _ keys: NetworkRequestKeys, _ resources: ConnectionResources
    ) throws(RecoveryError) -> ControlStart? {
        guard let control = keys.control, let ring = resources.control?.ring.region else { return nil }
        if start == .adopted {
            let published = ring.loadAcquiring(RingHeader.responseProduced)
            if let memory = journals?.open(path, .control) {
                let recovery = try ControlRecovery(
                    journal: memory, of: control, queues: keys.queues.count, responseProduced: published)
                return .resumed(ControlJournal(resuming: memory, from: recovery), recovery)
            }
            // Nothing was set yet; else nobody knows what.
            guard published == 0 else { throw .noJournal }
        }
        return .fresh(controlJournal(control, queues: keys.queues.count))
    }

    /// What the interface begins to filter by. Where a predecessor's list cannot be had all frames come through: too
    /// many are better than one too few.
    func multicastStart(_ start: InterfaceStart, _ keys: NetworkRequestKeys) -> MulticastStart {
        guard let first = keys.queues.first else { return MulticastStart(filter: MulticastFilter(isOn: keys.multicastControl)) }
        if start == .adopted {
            if let memory = journals?.open(path, .multicast), let recovery = MulticastRecovery(journal: memory, of: first) {
                var (filter, journal) = (recovery.filter, MulticastJournal(resuming: memory, from: recovery))
                // The frontend may have changed its mind while nobody was there.
                filter.setControl(keys.multicastControl)
                if filter != recovery.filter { journal.changed(filter) }
                return MulticastStart(filter: filter, journal: journal)
            }
            if keys.multicastControl {
                log("vif \(path.device): which multicast addresses it wants is not known any more: all frames come through")
            }
        }
        let filter = MulticastFilter(isOn: keys.multicastControl, isIncomplete: start == .adopted)
        let journal = region(.multicast, byteCount: MulticastJournal.Layout.byteCount).map {
            MulticastJournal(beginning: $0, of: first, filter)
        }
        return MulticastStart(filter: filter, journal: journal)
    }

    private func controlJournal(_ keys: ControlKeys, queues: Int) -> ControlJournal? {
        let capacity = queues * options.grantMappings
        return region(.control, byteCount: ControlJournal.Layout.byteCount(capacity: capacity)).map {
            ControlJournal(beginning: $0, of: keys, queues: queues, capacity: capacity)
        }
    }

    private func journal(_ keys: NetworkQueueKeys, _ index: Int) -> InterfaceJournal? {
        region(.queue(index), byteCount: InterfaceJournal.Layout.byteCount).map { InterfaceJournal(beginning: $0, of: keys) }
    }

    /// Memory for a journal.
    private func region(_ part: JournalDirectory.Part, byteCount: Int) -> SharedRegion? {
        journals?.create(path, part, byteCount: byteCount) { log("vif \(path.device): \($0)") }
    }
}
