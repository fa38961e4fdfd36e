// One queue, and the control ring, of an interface that is being made.

import DriverRuntime
import Hypervisor
import LinuxSystem
import NetworkDevices
import NetworkProtocol
import SharedMemory
import SharedRing
import XenBus

extension InterfacePlan {
    func queue(_ index: Int, _ state: InterfaceState, _ time: any TimeSource) throws(DriverFailure) -> InterfaceQueue {
        let rings = resources.queues[index]
        let memory: QueueMemory
        do throws(QueueMemoryError) {
            memory = try QueueMemory(name: device.name, options: options.dma, pool: bouncePool)
        } catch { throw failure(.noMemory, "\(error)") }
        let deviceQueue: any NetworkDeviceQueue
        do throws(Errno) { deviceQueue = try device.openQueue(bus: memory.dma.bus) } catch { throw failure(error, "\(error)") }
        let mappings = GrantMappings(
            limit: options.grantMappings, dma: memory.dma, hypervisor: hypervisor, frontend: frontend, random: random)
        let (journal, recovery) = starts[index].parts
        let transmitRing = try ring(rings.transmit.region, TransmitRing(), recovery?.transmit)
        let receiveRing = try ring(rings.receive.region, ReceiveRing(), recovery?.receive)
        // The last that can fail.
        if let settings = controlStart?.recovery?.settings, !mappings.restore(settings.mappings[index]) {
            throw failure(.invalidArgument, "pages that were mapped cannot be mapped again")
        }
        let context = QueueContext(
            index: index, time: time, interface: state, hypervisor: hypervisor, frontend: frontend, mappings: mappings,
            memory: memory, device: deviceQueue, journal: journal)
        return InterfaceQueue(
            context,
            .init(
                transmit: GuestTransmit(transmitRing, context, unanswered: recovery?.unanswered ?? []),
                receive: GuestReceive(receiveRing, context, posted: recovery?.posted ?? []),
                rings: [rings.transmit, rings.receive], bell: rings.bell, receiveBell: rings.receiveBell),
            drainMilliseconds: keys.notifiesReceive ? options.drainMilliseconds : options.quietDrainMilliseconds)
    }

    /// A ring from its beginning, or from where a predecessor stopped.
    private func ring<P: RingProtocol>(
        _ region: SharedRegion, _ contents: P, _ place: InterfaceRecovery.Place?
    ) throws(DriverFailure) -> BackRing<P> {
        guard let place else { return BackRing(attaching: region, contents) }
        do throws(RingError) {
            return try BackRing(resuming: region, contents, consumed: place.consumed, published: place.published)
        } catch { throw failure(.invalidArgument, "\(error)") }
    }

    /// - Parameter own: the queues of the control ring's thread.
    func control(
        _ state: InterfaceState, _ own: [InterfaceQueue], of count: Int
    ) throws(DriverFailure) -> InterfaceQueueGroup.Control? {
        guard let (held, bell) = resources.control, let controlStart else { return nil }
        var ring: BackRing<ControlRing>
        let journal: ControlJournal?
        switch controlStart {
        case .fresh(let own):
            ring = BackRing(attaching: held.region, ControlRing())
            journal = own
        case .resumed(let own, let found):
            do throws(RingError) {
                ring = try BackRing(
                    resuming: held.region, ControlRing(), consumed: found.settings.answered, published: found.published)
            } catch { throw failure(.invalidArgument, "\(error)") }
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
        let server = ControlServer(
            ring: ring, interface: state, queues: queues, hypervisor: hypervisor, frontend: frontend, journal: journal)
        return InterfaceQueueGroup.Control(server, bell, held)
    }

    private func failure(_ reason: Errno, _ text: String) -> DriverFailure {
        .refused(reason, "\(device.name): opening a queue: \(text)")
    }
}
