// A vif as whoever looks after it sees it. From any thread.

import DeviceControl
import DeviceFaults
import DeviceState
import DriverRuntime
import NetworkDevices
import XenBus

/// One vif.
struct ControlledVif: ControlledDevice {
    /// A vif as it was when somebody looked.
    struct Served: Sendable {
        let id: DeviceID
        /// For messages; empty until the device is open.
        let name: String
        /// Not kept: it goes once its driver lets it go.
        weak let device: (any NetworkDevice)?
        let address: String?
        let engine: InterfaceEngine?
        /// What is to go wrong on purpose; nil: nothing may.
        let faults: FaultBook?
    }

    let served: Served
    let counters: DeviceCounters

    var name: String { "vif-\(served.id)" }
    var kind: DeviceState.Kind { .network }
    var transport: DeviceState.Transport { .xen }
    var phase: DevicePhase {
        guard let rings = served.engine?.rings, !rings.isEmpty else { return .waiting }
        return rings.allSatisfy(\.isHeld) ? .paused : .running
    }

    func attributes() throws(ControlError) -> [DeviceState.Attribute] {
        var all: [DeviceState.Attribute] = []
        if let device = served.device {
            all += [DevicePropertyKey.model.attribute(device.name), DevicePropertyKey.mtu.attribute(UInt64(device.mtu))]
        }
        if let address = served.address { all.append(DevicePropertyKey.mac.attribute(address)) }
        let rings = served.engine?.rings ?? []
        if rings.allSatisfy(\.isHeld) { all += rings.enumerated().flatMap { $1.attributes($0) } }
        return all + counters.attributes
    }

    func rings() throws(ControlError) -> [RingReport] { served.engine?.reports ?? [] }

    func perform(_ command: DeviceCommand) throws(ControlError) {
        switch command {
        case .pause:
            // A frame moves within one turn of its thread: nothing is in work between two.
            try engine().hold(true)
        case .resume:
            guard phase == .paused else { throw .notPaused(name) }
            try engine().hold(false)
        case .kick(let queue): try with(queue) { _ in }
        case .inject(let queue): try with(queue) { $0.notify() }
        case .flush: throw .cannot(device: name, command: command.name, "an interface keeps nothing that could be flushed")
        case .refresh:
            throw .cannot(
                device: name, command: command.name, "an interface's size is its MTU, which is agreed when a frontend connects")
        case .cancel: throw .cannot(device: name, command: command.name, "an interface has nothing in work between two turns")
        case .reset:
            throw .cannot(
                device: name, command: command.name,
                "a ring of Xen's begins anew with its frontend only: `causeway network-detach` and `network-attach`, or xl's")
        case .trace:
            throw .cannot(
                device: name, command: command.name, "a trace lasts as long as its reader: `causeway trace` is one")
        case .handover:
            throw .cannot(
                device: name, command: command.name,
                "grants and event channels are the backend's domain's and process's: `causeway upgrade` hands all devices on")
        case .announce:
            throw .cannot(device: name, command: command.name, "a frontend of Xen's announces itself when its carrier comes")
        case .close:
            throw .cannot(
                device: name, command: command.name,
                "a frontend is let go through the store: `causeway network-detach`, `xl network-detach`")
        }
    }

    func load(_ state: DeviceState) throws(ControlError) {
        guard phase != .running else { throw .runs(name, needs: "a state is loaded") }
        try expectLikeness(of: state)
        guard state.transport == .xen else { throw .otherTransport(name, saved: state.transport) }
        // A guest that moved connects anew, and says anew what it wants by its control ring.
        counters.load(state)
    }

    var faults: FaultPermission { FaultPermission(served.faults) }

    private func engine() throws(ControlError) -> InterfaceEngine {
        guard let engine = served.engine else { throw .hasNoDriver(name) }
        return engine
    }

    private func with(_ queue: Int, _ body: @escaping @Sendable (InterfaceQueue) -> Void) throws(ControlError) {
        let engine = try engine()
        guard queue < engine.queueCount else { throw .noSuchQueue(name, queue, of: engine.queueCount) }
        engine.with(queue, body)
    }
}
