// A vbd as whoever looks after it sees it. From any thread.

import BlockDevices
import DeviceControl
import DeviceFaults
import DeviceState
import DriverRuntime
import Hypervisor
import LinuxSystem
import Reactor
import XenBus

/// A vbd as it was when somebody looked.
struct ServedDisk: Sendable {
    let id: DeviceID
    /// For messages; empty until the disk is open.
    let name: String
    /// Not kept: what it has locked is free once its driver lets it go.
    weak let disk: (any BlockDevice)?
    let queues: [(queue: BackendQueue, reactor: Reactor)]
    /// What is to go wrong on purpose; nil: nothing may.
    let faults: FaultBook?

    /// Where its rings are.
    var rings: [XenRingState] { queues.map { served in served.reactor.run { served.queue.state } } }
}

/// One vbd.
struct ControlledVbd: ControlledDevice {
    let served: ServedDisk
    let counters: DeviceCounters
    let time: any TimeSource
    /// Has the disk's size looked at.
    let refresh: @Sendable () -> Void

    var name: String { "vbd-\(served.id)" }
    var kind: DeviceState.Kind { .block }
    var transport: DeviceState.Transport { .xen }
    var phase: DevicePhase {
        let rings = served.rings
        if rings.isEmpty { return .waiting }
        return rings.allSatisfy(\.isHeld) ? .paused : .running
    }

    func attributes() throws(ControlError) -> [DeviceState.Attribute] {
        let rings = served.rings
        let queues = rings.allSatisfy(\.isHeld) ? rings.enumerated().flatMap { $1.attributes($0) } : []
        return (served.disk?.attributes ?? []) + queues + counters.attributes
    }

    func rings() throws(ControlError) -> [RingReport] {
        served.queues.enumerated().map { number, served in served.reactor.run { served.queue.report("queue \(number)") } }
    }

    func perform(_ command: DeviceCommand) throws(ControlError) {
        switch command {
        case .pause(let milliseconds): try pause(milliseconds)
        case .resume:
            guard phase == .paused else { throw .notPaused(name) }
            hold(false)
        case .flush:
            guard let disk = served.disk, let reactor = served.queues.first?.reactor else { throw .hasNoDriver(name) }
            do throws(Errno) { try disk.flush(on: reactor) } catch { throw .failed(name, "\(disk.name): \(error)") }
        case .refresh: refresh()
        case .kick(let queue):
            // Being called wakes the thread, whose next turn looks at every ring.
            try with(queue) { _ in }
        case .inject(let queue): try with(queue) { $0.notify() }
        case .close:
            throw .cannot(
                device: name, command: command.name,
                "a frontend is let go through the store: `causeway block-detach`, `xl block-detach`")
        case .cancel:
            guard !served.queues.isEmpty else { throw .hasNoDriver(name) }
            for (queue, reactor) in served.queues { reactor.run { queue.cancel() } }
        case .reset:
            throw .cannot(
                device: name, command: command.name,
                "a ring of Xen's begins anew with its frontend only: `causeway block-detach` and `block-attach`, or xl's")
        case .trace:
            throw .cannot(
                device: name, command: command.name,
                "a disk's requests are counted (`causeway top`), and what was agreed is in the store (`xenstore-watch`)")
        case .handover:
            throw .cannot(
                device: name, command: command.name,
                "grants and event channels are the backend's domain's and process's: `causeway upgrade` hands all devices on")
        case .announce: throw .cannot(device: name, command: command.name, "it is no interface")
        }
    }

    func load(_ state: DeviceState) throws(ControlError) {
        guard phase != .running else { throw .runs(name, needs: "a state is loaded") }
        try expectLikeness(of: state)
        guard state.transport == .xen else { throw .otherTransport(name, saved: state.transport) }
        // A guest that moved connects anew: its rings are not the ones that were saved.
        counters.load(state)
    }

    var faults: FaultPermission { FaultPermission(served.faults) }

    private func pause(_ milliseconds: Int) throws(ControlError) {
        guard !served.queues.isEmpty else { throw .hasNoDriver(name) }
        hold(true)
        let deadline = time.nanoseconds &+ UInt64(milliseconds) * 1_000_000
        while true {
            let left = served.rings.reduce(0) { $0 + $1.inWork }
            if left == 0 { return }
            guard time.nanoseconds < deadline else {
                hold(false)
                throw .stillBusy(name, count: left, milliseconds: milliseconds)
            }
            time.sleep(nanoseconds: 500_000)
        }
    }

    private func hold(_ isHeld: Bool) { for (queue, reactor) in served.queues { reactor.run { queue.hold(isHeld) } } }

    private func with(_ number: Int, _ body: @escaping @Sendable (BackendQueue) -> Void) throws(ControlError) {
        guard !served.queues.isEmpty else { throw .hasNoDriver(name) }
        guard served.queues.indices.contains(number) else { throw .noSuchQueue(name, number, of: served.queues.count) }
        let (queue, reactor) = served.queues[number]
        reactor.run { body(queue) }
    }
}
