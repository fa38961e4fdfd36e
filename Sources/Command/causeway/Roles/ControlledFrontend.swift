// A frontend as `causeway fault` sees it: by the name that its device has with the backend. There is nothing else to be
// asked of it here.

import BlockFrontend
import DeviceControl
import DeviceFaults
import DeviceState
import Hypervisor
import NetworkFrontend
import XenBus
import XenTypes

/// The one device of a frontend's process.
struct ControlledFrontend: ControlledDevice {
    let name: String
    let kind: DeviceState.Kind
    let faults: FaultPermission
    private let isConnected: Bool

    /// A disk's.
    init<H: Hypervisor>(_ frontend: BlockFrontend<H>, in domain: DomainID) {
        name = "vbd-\(DeviceID(frontend: domain, number: frontend.device))"
        kind = .block
        faults = FaultPermission(frontend.faults)
        isConnected = frontend.connectionCount > 0
    }

    /// An interface's.
    init<H: Hypervisor>(_ frontend: NetworkFrontend<H>, in domain: DomainID) {
        name = "vif-\(DeviceID(frontend: domain, number: frontend.number))"
        kind = .network
        faults = FaultPermission(frontend.faults)
        isConnected = frontend.isLive
    }

    var transport: DeviceState.Transport { .xen }
    var phase: DevicePhase { isConnected ? .running : .waiting }

    func attributes() throws(ControlError) -> [DeviceState.Attribute] { [] }

    func perform(_ command: DeviceCommand) throws(ControlError) { throw refusal(command.name) }

    func load(_ state: DeviceState) throws(ControlError) { throw refusal("load") }

    private func refusal(_ command: String) -> ControlError {
        .cannot(device: name, command: command, "this is its frontend: ask the backend")
    }
}
