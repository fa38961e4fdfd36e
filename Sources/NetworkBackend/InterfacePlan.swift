// From what the control thread mapped and read to an engine on its reactor.

import DMA
import Glibc
import HostDevices
import Hypervisor
import LinuxSystem
import Reactor
import SharedMemory
import SharedRing
import XenBus
import XenWire

/// How an interface begins.
enum InterfaceStart { case fresh, adopted }

/// What one queue begins with.
enum QueueStart: Sendable {
    /// New rings, and their journal if one is kept.
    case fresh(InterfaceJournal?)
    /// A predecessor's rings.
    case resumed(InterfaceJournal, InterfaceRecovery)
}

/// What a control ring begins with.
enum ControlStart: Sendable {
    /// A new ring, and its journal if one is kept.
    case fresh(ControlJournal?)
    /// A predecessor's ring.
    case resumed(ControlJournal, ControlRecovery)

    var recovery: ControlRecovery? { if case .resumed(_, let recovery) = self { recovery } else { nil } }
}

/// What an interface begins to filter by.
struct MulticastStart: Sendable {
    var wishes: MulticastWishes
    /// Nil: none is kept.
    var journal: MulticastJournal?
}

/// Why an engine could not be made.
struct InterfaceBuildFailure: Error, Sendable {
    let number: Int32
    let text: String
    init(_ error: Errno) {
        number = error.rawValue
        text = "\(error)"
    }
    init(_ error: RingError) {
        number = 22
        text = "\(error)"
    }
    init(_ text: String) {
        number = 22
        self.text = text
    }
    init(_ error: QueueMemoryError) {
        number = ENOMEM
        text = "\(error)"
    }
}

/// Everything that an engine is made of.
struct InterfacePlan: Sendable {
    let keys: NetworkRequestKeys
    let features: NetworkFeatures
    let device: any NetworkDevice
    let rate: CreditRate?
    let hypervisor: any Hypervisor
    let frontend: DomainID
    let options: NetworkBackendOptions
    /// Shared by the queues; nil: there is none.
    let bouncePool: BouncePool?
    let held: HeldResources
    /// One for each queue.
    let starts: [QueueStart]
    /// Nil: there is no control ring.
    let controlStart: ControlStart?
    let multicastStart: MulticastStart

    /// Makes it, each queue on its reactor's thread; from another thread.
    func build(
        on turn: ReactorTurn, report: @escaping @Sendable (InterfaceReport) -> Void
    ) throws(InterfaceBuildFailure) -> InterfaceEngine {
        let isAdopted = starts.contains { if case .resumed = $0 { true } else { false } }
        let device = device
        let reactors = turn.reactors(for: device, queues: starts.count)
        let count = reactors.count
        // A device that has none to show is no reason to stop.
        let commons = InterfaceCommons(multicastStart, groups: count) { try? device.setCarrier($0) }
        var groups: [QueueGroup] = []
        for (number, reactor) in reactors.enumerated() {
            let made = reactor.run { () -> Result<QueueGroup, InterfaceBuildFailure> in
                do throws(InterfaceBuildFailure) {
                    return .success(try group(number, of: count, reactor, commons, report))
                } catch { return .failure(error) }
            }
            switch made {
            case .success(let group): groups.append(group)
            case .failure(let error):
                // The rings and ports are the caller's; these are not.
                for (group, reactor) in zip(groups, reactors) { reactor.run { group.giveUp() } }
                throw error
            }
        }
        // The first last: its control ring may ask for something of the others.
        let all = groups
        for (group, reactor) in zip(groups, reactors).reversed() {
            reactor.run { group.start(among: all, isAdopted: isAdopted) }
        }
        return InterfaceEngine(groups, commons, lostSlots: lostSlots)
    }

    /// The queues of one reactor, on its thread.
    private func group(
        _ number: Int, of count: Int, _ reactor: Reactor, _ commons: InterfaceCommons,
        _ report: @escaping @Sendable (InterfaceReport) -> Void
    ) throws(InterfaceBuildFailure) -> QueueGroup {
        let state = InterfaceState(keys, features, commons, group: number)
        if let settings = controlStart?.recovery?.settings { state.take(settings.spreading) }
        var queues: [InterfaceQueue] = []
        do throws(InterfaceBuildFailure) {
            for index in stride(from: number, to: starts.count, by: count) { queues.append(try queue(index, state)) }
            return QueueGroup(
                number, of: count, reactor: reactor, state: state, commons: commons, queues: queues,
                control: number == 0 ? try control(state, queues, of: count) : nil, report: report)
        } catch {
            for queue in queues { queue.mappings.removeAll() }
            throw error
        }
    }

    /// - Parameter own: the queues of the control ring's thread.
    private func control(
        _ state: InterfaceState, _ own: [InterfaceQueue], of count: Int
    ) throws(InterfaceBuildFailure) -> QueueGroup.Control? {
        guard let held = held.control, let controlStart else { return nil }
        var ring: BackRing<ControlRing>
        let journal: ControlJournal?
        switch controlStart {
        case .fresh(let own):
            ring = BackRing(attaching: held.ring.region, ControlRing())
            journal = own
        case .resumed(let own, let found):
            do throws(RingError) {
                ring = try BackRing(
                    resuming: held.ring.region, ControlRing(), consumed: found.settings.answered, published: found.published)
            } catch { throw InterfaceBuildFailure(error) }
            if found.lacksAnswer {
                ring.push(found.settings.last)
                _ = ring.publish()
            }
            journal = own
        }
        let queues = starts.indices.map { index in
            ControlQueue(
                limit: options.grantMappings, mappings: index % count == 0 ? own[index / count].mappings : nil,
                entries: index % count == 0 ? [] : controlStart.recovery?.settings.mappings[index] ?? [])
        }
        let core = ControlCore(
            ring: ring, interface: state, queues: queues, hypervisor: hypervisor, frontend: frontend, journal: journal)
        return QueueGroup.Control(core, held.bell, held.ring)
    }

    /// Slots that a predecessor had taken and not answered.
    private var lostSlots: Int {
        var count = 0
        for case .resumed(_, let recovery) in starts { count += recovery.unanswered.count }
        return count
    }

    private func queue(_ index: Int, _ shared: InterfaceState) throws(InterfaceBuildFailure) -> InterfaceQueue {
        let rings = held.queues[index]
        let memory: QueueMemory
        do throws(QueueMemoryError) {
            memory = try QueueMemory(name: device.name, options: options.dma, pool: bouncePool)
        } catch { throw InterfaceBuildFailure(error) }
        let deviceQueue: any NetworkDeviceQueue
        do throws(Errno) { deviceQueue = try device.openQueue(bus: memory.dma.bus) } catch { throw InterfaceBuildFailure(error) }
        let mappings = GrantMappings(limit: options.grantMappings, dma: memory.dma, hypervisor: hypervisor, frontend: frontend)
        let journal: InterfaceJournal?
        var recovery: InterfaceRecovery?
        switch starts[index] {
        case .fresh(let own): journal = own
        case .resumed(let own, let found):
            journal = own
            recovery = found
        }
        let transmitRing = try ring(rings.transmit.region, TransmitRing(), recovery?.transmit)
        let receiveRing = try ring(rings.receive.region, ReceiveRing(), recovery?.receive)
        // The last that can fail.
        if let settings = controlStart?.recovery?.settings, !mappings.restore(settings.mappings[index]) {
            throw InterfaceBuildFailure("pages that were mapped cannot be mapped again")
        }
        let transmit = TransmitCore(
            ring: transmitRing, interface: shared, mappings: mappings, hypervisor: hypervisor, frontend: frontend,
            device: deviceQueue, memory: memory, rate: rate, journal: journal, unanswered: recovery?.unanswered ?? [])
        let receive = ReceiveCore(
            ring: receiveRing, interface: shared, mappings: mappings, hypervisor: hypervisor, frontend: frontend,
            device: deviceQueue, index: index, memory: memory, journal: journal, posted: recovery?.posted ?? [])
        return InterfaceQueue(
            index: index,
            .init(
                transmit: transmit, receive: receive, memory: memory, mappings: mappings, device: deviceQueue,
                rings: [rings.transmit, rings.receive], bell: rings.bell, receiveBell: rings.receiveBell),
            drainMilliseconds: keys.notifiesReceive ? options.drainMilliseconds : options.quietDrainMilliseconds)
    }

    /// A ring from its beginning, or from where a predecessor stopped.
    private func ring<P: RingProtocol>(
        _ region: SharedRegion, _ contents: P, _ place: InterfaceRecovery.Place?
    ) throws(InterfaceBuildFailure) -> BackRing<P> {
        guard let place else { return BackRing(attaching: region, contents) }
        do throws(RingError) {
            return try BackRing(resuming: region, contents, consumed: place.consumed, published: place.published)
        } catch { throw InterfaceBuildFailure(error) }
    }
}
