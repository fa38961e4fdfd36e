// One vif on the control thread: opens its device, connects its frontend's rings, reports what went wrong.

import DMA
import DriverSupport
import HostDevices
import Hypervisor
import LinuxSystem
import Packets
import Reactor
import SharedRing
import XenBus
import XenStore
import XenWire

/// Opens the device that a directory asks for; throws one line that names it and the reason.
public typealias NetworkOpener = @Sendable (NetworkSettings) throws(NetworkOpenFailure) -> any NetworkDevice

/// Why a device could not be opened: one line with its name and the reason.
public struct NetworkOpenFailure: Error, Sendable, CustomStringConvertible {
    /// The error number for the error node.
    public let number: Int32
    public let description: String
    /// Wraps a line.
    public init(number: Int32, _ description: String) {
        self.number = number
        self.description = description
    }
}

/// The control thread's view of one vif.
final class InterfaceDriver: BackendDriver {
    typealias News = InterfaceReport
    let path: BackendPath
    private let hypervisor: any Hypervisor
    private let options: NetworkBackendOptions
    private let openDevice: NetworkOpener
    private let reactor: Reactor
    private let report: @Sendable (InterfaceReport) -> Void
    private let traces: TraceDesk
    private let log: (String) -> Void
    private var settings: NetworkSettings?
    private(set) var device: (any NetworkDevice)?
    private(set) var engine: InterfaceEngine?

    init(
        path: BackendPath, hypervisor: any Hypervisor, options: NetworkBackendOptions, openDevice: @escaping NetworkOpener,
        reactor: Reactor, report: @escaping @Sendable (InterfaceReport) -> Void, traces: TraceDesk, log: @escaping (String) -> Void
    ) {
        self.path = path
        self.hypervisor = hypervisor
        self.options = options
        self.openDevice = openDevice
        self.reactor = reactor
        self.report = report
        self.traces = traces
        self.log = log
    }

    var holdsRings: Bool { engine != nil }
    var isOpen: Bool { device != nil }
    /// What a frontend may change is its headroom for programs that look at packets first, which is not offered here: nothing to do.
    var reconfigures: Bool { true }

    func announce(_ store: StoreClient) throws(DriverFailure) {
        let wanted: NetworkSettings
        do throws(XenbusError) { wanted = try NetworkSettings.read(from: store, at: path) } catch { throw .xenbus(error) }
        if device == nil || settings != wanted {
            do throws(NetworkOpenFailure) { device = try openDevice(wanted) } catch {
                device = nil
                noteHotplug(store, error: error.description)
                throw .unavailable(number: error.number, error.description)
            }
            settings = wanted
        }
        if let device { traces.opened(path.device, wanted, on: device.name) }
        let offer = options.offer
        let directory = path.path
        do throws(XenbusError) {
            try store.atomically { access throws(XenbusError) in
                guard try access.text(directory + "/state") != nil else { return }
                try offer.write(to: access, at: directory)
                // No script runs here, so nobody else would write it, and the vif would never leave state 2 (item 22).
                try access.put(directory + "/hotplug-status", "connected")
                try access.discardNode(directory + "/hotplug-error")
                try access.put(directory + "/state", XenbusState.initWait.rawValue)
            }
        } catch { throw .xenbus(error) }
    }

    private func noteHotplug(_ store: StoreClient, error: String) {
        try? store.put(path.path + "/hotplug-status", "error")
        try? store.put(path.path + "/hotplug-error", error)
    }

    func connect(_ store: StoreClient, _ frontend: String) throws(DriverFailure) {
        guard let device, let settings else { throw .refused(number: 19, "no device") }
        let keys: NetworkRequestKeys
        do throws(XenbusError) {
            keys = try NetworkRequestKeys.read(from: store, at: frontend, offer: options.offer)
        } catch { throw .xenbus(error) }
        var features = keys.features
        features.formIntersection(options.features)
        features = features.consistent
        do { try device.setOffloads(features.abilities.deviceOffloads) } catch {
            throw .refused(number: error.rawValue, "\(device.name): setting offloads: \(error)")
        }
        engine = try makeEngine(keys, features, device, settings)
        traces.connected(path.device, engine)
        do throws(XenbusError) { try store.switchState(of: path.path, to: .connected) } catch { throw .xenbus(error) }
        log(
            "vif \(path.device): connected: \(device.name), \(keys.queues.count) queues, \(features)"
                + (keys.control == nil ? "" : ", control ring"))
    }

    private func makeEngine(
        _ keys: NetworkRequestKeys, _ features: NetworkFeatures, _ device: any NetworkDevice, _ settings: NetworkSettings
    ) throws(DriverFailure) -> InterfaceEngine {
        var held = HeldResources()
        do throws(HypervisorError) {
            for queue in keys.queues { try held.take(queue, hypervisor, path.device.frontend) }
            if let control = keys.control { try held.take(control, hypervisor, path.device.frontend) }
        } catch {
            held.release()
            throw .refused(number: 22, "queue \(held.queues.count): \(error)")
        }
        let (hypervisor, frontend, options, reactor, report) = (hypervisor, path.device.frontend, options, reactor, report)
        let taken = held
        let drain = keys.notifiesReceive ? options.drainMilliseconds : options.quietDrainMilliseconds
        let made = reactor.run { () -> Result<InterfaceEngine, Errno> in
            do throws(Errno) {
                let shared = InterfaceState(keys, features)
                var queues: [InterfaceQueue] = []
                for (index, rings) in taken.queues.enumerated() {
                    let bus = MemoryBus()
                    let buffers = try QueueBuffers()
                    let deviceQueue = try device.openQueue(bus: bus)
                    let mappings = GrantMappings(
                        limit: options.grantMappings, bus: bus, hypervisor: hypervisor, frontend: frontend)
                    let transmit = TransmitCore(
                        ring: BackRing(attaching: rings.transmit.region, TransmitRing()), interface: shared, mappings: mappings,
                        hypervisor: hypervisor, frontend: frontend, device: deviceQueue, bus: bus, buffers: buffers,
                        rate: settings.rate)
                    let receive = ReceiveCore(
                        ring: BackRing(attaching: rings.receive.region, ReceiveRing()), interface: shared, mappings: mappings,
                        hypervisor: hypervisor, frontend: frontend, device: deviceQueue, index: index, bus: bus,
                        buffers: buffers)
                    queues.append(
                        InterfaceQueue(
                            index: index,
                            .init(
                                transmit: transmit, receive: receive, mappings: mappings, device: deviceQueue,
                                rings: [rings.transmit, rings.receive], bell: rings.bell, receiveBell: rings.receiveBell),
                            drainMilliseconds: drain))
                }
                let control = taken.control.map { control in
                    ControlCore(
                        ring: BackRing(attaching: control.ring.region, ControlRing()), interface: shared,
                        mappings: queues.map(\.mappings), hypervisor: hypervisor, frontend: frontend)
                }
                return .success(
                    InterfaceEngine(
                        reactor: reactor, state: shared, queues: queues, control: control,
                        controlChannel: taken.control?.bell, controlRing: taken.control?.ring, report: report))
            } catch { return .failure(error) }
        }
        switch made {
        case .success(let engine): return engine
        case .failure(let error):
            held.release()
            throw .refused(number: error.rawValue, "\(device.name): opening a queue: \(error)")
        }
    }

    func closeQueues(handingOver: Bool) -> Int {
        guard let engine else { return 0 }
        self.engine = nil
        traces.connected(path.device, nil)
        let reactor = reactor
        reactor.post { engine.close() }
        return 1
    }

    func letGo() {
        device = nil
        traces.gone(path.device)
    }

    func handle(_ news: InterfaceReport, _ store: StoreClient) throws(DriverFailure) -> Int {
        switch news {
        case .closed: return 1
        case .broken(let reason): throw .refused(number: 22, "the frontend broke its ring: \(reason)")
        }
    }
}

/// What a connection has mapped and bound, until an engine has it; given back whole if a part cannot be had (B17).
private struct HeldResources: Sendable {
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
        let bell = try hypervisor.bindChannel(remote: frontend, port: port)
        bells.append(bell)
        return bell
    }

    func release() {
        for bell in bells { bell.close() }
        for ring in rings { ring.unmap() }
    }
}
