// A frontend's rings and doorbells on their way from its keys to an engine.

import DriverRuntime
import Hypervisor
import NetworkProtocol
import XenTypes

/// What a connection has mapped and bound, until an engine has it; given back whole if a part cannot be had
/// (attacks.md B17).
struct ConnectionResources: Sendable {
    struct Queue: Sendable {
        let transmit: any ContiguousGrants
        let receive: any ContiguousGrants
        let bell: any EventChannel
        let receiveBell: (any EventChannel)?
    }

    var queues: [Queue] = []
    var control: (ring: any ContiguousGrants, bell: any EventChannel)?
    private var rings: [any ContiguousGrants] = []
    private var bells: [any EventChannel] = []

    private let isAdopted: Bool
    private let frontendGone: @Sendable () -> Void

    /// - Parameters:
    ///   - isAdopted: whether a predecessor had them.
    ///   - frontendGone: is called, on any thread and perhaps more than once, when the other end of a doorbell is gone.
    init(isAdopted: Bool, frontendGone: @escaping @Sendable () -> Void) {
        self.isAdopted = isAdopted
        self.frontendGone = frontendGone
    }

    mutating func take(_ keys: NetworkQueueKeys, _ hypervisor: any Hypervisor, _ frontend: DomainID) throws(HypervisorError) {
        let transmit = try map(keys.transmit, hypervisor, frontend)
        let receive = try map(keys.receive, hypervisor, frontend)
        let bell = try bind(keys.port, hypervisor, frontend)
        var other: (any EventChannel)?
        if let port = keys.receivePort { other = try bind(port, hypervisor, frontend) }
        queues.append(Queue(transmit: transmit, receive: receive, bell: bell, receiveBell: other))
    }

    mutating func take(_ keys: ControlKeys, _ hypervisor: any Hypervisor, _ frontend: DomainID) throws(HypervisorError) {
        control = (try map(keys.ring, hypervisor, frontend), try bind(keys.port, hypervisor, frontend))
    }

    private mutating func map(
        _ reference: GrantReference, _ hypervisor: any Hypervisor, _ frontend: DomainID
    ) throws(HypervisorError) -> any ContiguousGrants {
        let ring = try hypervisor.mapContiguous([reference], of: frontend, access: .readWrite)
        rings.append(ring)
        return ring
    }

    private mutating func bind(
        _ port: EventPort, _ hypervisor: any Hypervisor, _ frontend: DomainID
    ) throws(HypervisorError) -> any EventChannel {
        let bell = try hypervisor.bindChannel(remote: frontend, port: port, isAdopted: isAdopted)
        bell.whenPeerCloses(frontendGone)
        bells.append(bell)
        return bell
    }

    func release() {
        for bell in bells { bell.close() }
        for ring in rings { ring.unmap() }
    }
}
