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

    /// Makes it, on the reactor's thread.
    func build(
        on reactor: Reactor, report: @escaping @Sendable (InterfaceReport) -> Void
    ) throws(InterfaceBuildFailure) -> InterfaceEngine {
        let isAdopted = starts.contains { if case .resumed = $0 { true } else { false } }
        let shared = InterfaceState(keys, features, multicastStart)
        let device = device
        // A device that has none to show is no reason to stop.
        shared.setCarrier = { try? device.setCarrier($0) }
        if let settings = controlStart?.recovery?.settings { shared.spreading = settings.spreading }
        var queues: [InterfaceQueue] = []
        let control: ControlCore?
        do throws(InterfaceBuildFailure) {
            for index in starts.indices { queues.append(try queue(index, shared)) }
            control = try makeControl(shared, queues.map(\.mappings))
        } catch {
            // The rings and ports are the caller's; these are not.
            for queue in queues { queue.mappings.removeAll() }
            throw error
        }
        if isAdopted {
            for queue in queues { queue.announceSuccession() }
            held.control?.bell.notify()
        }
        return InterfaceEngine(
            reactor: reactor, state: shared, queues: queues, control: control, controlChannel: held.control?.bell,
            controlRing: held.control?.ring, lostSlots: lostSlots, report: report)
    }

    private func makeControl(
        _ shared: InterfaceState, _ mappings: [GrantMappings]
    ) throws(InterfaceBuildFailure) -> ControlCore? {
        guard let region = held.control?.ring.region, let controlStart else { return nil }
        var ring: BackRing<ControlRing>
        let journal: ControlJournal?
        switch controlStart {
        case .fresh(let own):
            ring = BackRing(attaching: region, ControlRing())
            journal = own
        case .resumed(let own, let found):
            do throws(RingError) {
                ring = try BackRing(
                    resuming: region, ControlRing(), consumed: found.settings.answered, published: found.published)
            } catch { throw InterfaceBuildFailure(error) }
            if found.lacksAnswer {
                ring.push(found.settings.last)
                _ = ring.publish()
            }
            journal = own
        }
        return ControlCore(
            ring: ring, interface: shared, mappings: mappings, hypervisor: hypervisor, frontend: frontend, journal: journal)
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
        if let settings = controlStart?.recovery?.settings, !mappings.restore(settings.mappings[index]) {
            throw InterfaceBuildFailure("pages that were mapped cannot be mapped again")
        }
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
