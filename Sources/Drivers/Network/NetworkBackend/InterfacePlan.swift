// From what the control thread mapped and read to an engine on its reactor.

import DMA
import Hypervisor
import LinuxSystem
import NetworkDevices
import NetworkProtocol
import Reactor
import XenBus
import XenTypes

/// How an interface begins.
enum InterfaceStart { case fresh, adopted }

/// What one queue begins with.
enum QueueStart: Sendable {
    /// New rings, and their journal if one is kept.
    case fresh(InterfaceJournal?)
    /// A predecessor's rings.
    case resumed(InterfaceJournal, InterfaceRecovery)

    var parts: (journal: InterfaceJournal?, recovery: InterfaceRecovery?) {
        switch self {
        case .fresh(let journal): (journal, nil)
        case .resumed(let journal, let recovery): (journal, recovery)
        }
    }
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
    var filter: MulticastFilter
    /// Nil: none is kept.
    var journal: MulticastJournal?
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
    let random: any RandomSource
    /// Shared by the queues; nil: there is none.
    let bouncePool: BouncePool?
    let resources: ConnectionResources
    /// One for each queue.
    let starts: [QueueStart]
    /// Nil: there is no control ring.
    let controlStart: ControlStart?
    let multicastStart: MulticastStart

    /// Makes it, each queue on its reactor's thread; from another thread.
    func build(
        on turn: ReactorAssignment, report: @escaping @Sendable (InterfaceReport) -> Void
    ) throws(DriverFailure) -> InterfaceEngine {
        let isAdopted = starts.contains { if case .resumed = $0 { true } else { false } }
        let device = device
        let reactors = turn.reactors(for: device, queues: starts.count)
        let count = reactors.count
        // A device that has none to show is no reason to stop.
        let credit = SharedCredit(rate, now: hypervisor.time.nanoseconds / 1000)
        let shared = SharedInterfaceState(multicastStart, groups: count, credit: credit) { try? device.setCarrier($0) }
        var groups: [InterfaceQueueGroup] = []
        for (number, reactor) in reactors.enumerated() {
            let made = reactor.run { () -> Result<InterfaceQueueGroup, DriverFailure> in
                do throws(DriverFailure) {
                    return .success(try group(number, of: count, reactor, shared, report))
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
        if lostSlots > 0 { shared.transmitDrops.add(.lost, UInt64(lostSlots)) }
        return InterfaceEngine(groups, shared, hypervisor.time, lostSlots: lostSlots)
    }

    /// The queues of one reactor, on its thread.
    private func group(
        _ number: Int, of count: Int, _ reactor: Reactor, _ shared: SharedInterfaceState,
        _ report: @escaping @Sendable (InterfaceReport) -> Void
    ) throws(DriverFailure) -> InterfaceQueueGroup {
        let state = InterfaceState(keys, features, shared, group: number, mtu: device.mtu)
        if let settings = controlStart?.recovery?.settings { state.take(settings.scaling) }
        var queues: [InterfaceQueue] = []
        do throws(DriverFailure) {
            for index in stride(from: number, to: starts.count, by: count) { queues.append(try queue(index, state, reactor.time)) }
            return InterfaceQueueGroup(
                .init(
                    number: number, count: count, reactor: reactor, state: state, shared: shared, queues: queues,
                    control: number == 0 ? try control(state, queues, of: count) : nil, report: report))
        } catch {
            for queue in queues { queue.mappings.removeAll() }
            throw error
        }
    }

    /// Slots that a predecessor had taken and not answered.
    private var lostSlots: Int {
        var count = 0
        for case .resumed(_, let recovery) in starts { count += recovery.unanswered.count }
        return count
    }
}
