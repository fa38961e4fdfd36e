// A frontend's rings and doorbells on their way from its keys to an engine.

import Hypervisor
import LinuxSystem
import XenBus
import XenWire

/// What a connection has mapped and bound, until an engine has it; given back whole if a part cannot be had (B17).
struct HeldResources: Sendable {
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

    /// How often a port is tried: a predecessor's may still be closing, which takes no more than 2 s.
    private let attempts: Int

    init(isAdopted: Bool) { attempts = isAdopted ? 100 : 1 }

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
        var left = attempts
        while true {
            do throws(HypervisorError) {
                let bell = try hypervisor.bindChannel(remote: frontend, port: port)
                bells.append(bell)
                return bell
            } catch {
                left -= 1
                if left == 0 { throw error }
                sleepMilliseconds(20)
            }
        }
    }

    func release() {
        for bell in bells { bell.close() }
        for ring in rings { ring.unmap() }
    }
}
