// One vif on the control thread: opens its device, connects its frontend's rings or takes a predecessor's over, reports
// what went wrong.

import DMA
import DeviceFaults
import DeviceTrace
import DriverRuntime
import Hypervisor
import LinuxSystem
import NetworkDevices
import NetworkProtocol
import Reactor
import XenBus
import XenStore
import XenTypes

/// Opens the device that a directory asks for; throws one line that names it and the reason.
public typealias NetworkOpener = @Sendable (NetworkSettings) throws(DeviceOpenFailure) -> any NetworkDevice

/// What all interfaces of one backend have in common.
struct InterfaceEnvironment {
    let hypervisor: any Hypervisor
    let options: NetworkBackendOptions
    /// Where this process leaves what a successor needs; nil: nowhere.
    let journals: JournalDirectory?
    let openDevice: NetworkOpener
    let traces: TraceRegistry
    let random: any RandomSource
    let log: (String) -> Void
    /// Another way to the interfaces; nil: there is none.
    let exporter: (any DeviceExporter<any NetworkDevice>)?
}

/// The control thread's view of one vif.
final class InterfaceDriver: BackendDriver {
    typealias News = InterfaceReport
    let path: BackendPath
    let hypervisor: any Hypervisor
    let options: NetworkBackendOptions
    let journals: JournalDirectory?
    private let openDevice: NetworkOpener
    private let reactors: ReactorAssignment
    private let report: @Sendable (InterfaceReport) -> Void
    /// Connections that ended: news of an earlier one are not of this one.
    private var connections = 0
    let traces: TraceRegistry
    private let random: any RandomSource
    let log: (String) -> Void
    /// Whether it was connected in this process's life.
    private var wasConnected = false
    var settings: NetworkSettings?
    var device: (any NetworkDevice)? { didSet { if device !== oldValue { exporter?.changed(path.device, device) } } }
    private let exporter: (any DeviceExporter<any NetworkDevice>)?
    var engine: InterfaceEngine? {
        didSet {
            if let oldValue { faults?.unwatch(oldValue) }
            if let engine, let faults { engine.follow(faults) }
        }
    }
    /// What is to go wrong on purpose, whoever connects; nil: nothing may.
    let faults: FaultBook?
    /// Whether the device shows no carrier because its frontend went.
    var isCarrierHidden = false
    /// Whether the connection that is ending has no successor's to follow it.
    private var mayHideCarrier = false
    /// That the device has few queues was said.
    var hasNotedQueues = false

    init(
        _ path: BackendPath, _ environment: InterfaceEnvironment, reactors: ReactorAssignment,
        report: @escaping @Sendable (InterfaceReport) -> Void
    ) {
        self.path = path
        hypervisor = environment.hypervisor
        options = environment.options
        faults = options.takesFaults ? FaultBook(.network, .back) : nil
        journals = environment.journals
        openDevice = environment.openDevice
        traces = environment.traces
        random = environment.random
        log = environment.log
        exporter = environment.exporter
        self.reactors = reactors
        self.report = report
    }

    var holdsRings: Bool { engine != nil }
    var isOpen: Bool { device?.readiness == .ready }
    /// What a frontend may change is its headroom for programs that look at packets first, which is not offered here:
    /// nothing to do.
    var reconfigures: Bool { true }
    var removesDirectories: Bool { options.removesDirectories }
    var handsOver: Bool { journals != nil }

    func announce(_ store: StoreClient) throws(DriverFailure) {
        let script = try hotplug(store)
        if case .failed(let reason) = script { throw .refused(.noSuchAddressOrDevice, "the hot-plug script failed: \(reason)") }
        do throws(DriverFailure) { try open(store, script) } catch {
            // Where a script is waited for the toolstack waits for state 2; it says itself that it waited in vain.
            if case .unavailable(_, let reason) = error, script == .none { noteHotplug(store, error: reason) }
            throw error
        }
        let offer = offer
        noteQueues()
        let directory = path.path
        do throws(XenbusError) {
            if script == .none { try writeMTU(store) }
            try store.atomically { access throws(XenbusError) in
                guard try access.text(directory + "/state") != nil else { return }
                try offer.write(to: access, at: directory)
                if script == .none {
                    // No script runs, so nobody else would write it, and the vif would never leave state 2
                    // (protocol-rules.md 22).
                    try access.put(directory + "/hotplug-status", "connected")
                    try access.discardNode(directory + "/hotplug-error")
                }
                try access.put(directory + "/state", XenbusState.initWait.rawValue)
            }
        } catch { throw .xenbus(error) }
    }

    func hotplug(_ store: StoreClient) throws(DriverFailure) -> VifHotplug {
        guard options.waitsForScript else { return .none }
        do throws(XenbusError) { return try VifHotplug.read(from: store, at: path.path) } catch { throw .xenbus(error) }
    }

    /// Opens the device, unless it is open as it is wanted.
    func open(_ store: StoreClient, _ script: VifHotplug) throws(DriverFailure) {
        var wanted: NetworkSettings
        do throws(XenbusError) { wanted = try NetworkSettings.read(from: store, at: path) } catch { throw .xenbus(error) }
        if device?.isGone == true { letDeviceGo() }
        if device != nil && settings == wanted { return try expectReady() }
        settings = nil
        let plain = wanted
        // A script that has run runs no more: an interface that had to be made again is put in its place here.
        wanted.isPlacedByScript = script == .running
        do throws(DeviceOpenFailure) { device = try openDevice(wanted) } catch {
            device = nil
            throw .unavailable(number: error.number, error.description)
        }
        settings = plain
        let report = report
        device?.watchCarrier { report(.carrier) }
        if let device {
            let id = path.device
            traces.opened(
                id,
                TraceSubject(
                    name: "vif\(id.frontend).\(id.number)",
                    description: "domain \(id.frontend)'s interface \(id.number), on \(device.name)", address: plain.address))
        }
        try expectReady()
    }

    /// Says so where the device that was opened takes a while, or will never be there.
    private func expectReady() throws(DriverFailure) {
        switch device?.readiness {
        case .ready, nil: return
        case .notYet: throw .later
        case .failed(let reason):
            letDeviceGo()
            throw .unavailable(.ioError, reason)
        }
    }

    private func letDeviceGo() {
        device?.retire()
        device = nil
        settings = nil
        isCarrierHidden = false
        hasNotedQueues = false
    }

    func isWaiting(_ store: StoreClient) throws(DriverFailure) -> Bool {
        switch try hotplug(store) {
        case .none, .done: return false
        case .running: return true
        case .failed(let reason): throw .refused(.noSuchAddressOrDevice, "the hot-plug script failed: \(reason)")
        }
    }

    private func noteHotplug(_ store: StoreClient, error: String) {
        try? store.put(path.path + "/hotplug-status", "error")
        try? store.put(path.path + "/hotplug-error", error)
    }

    func connect(_ store: StoreClient, _ frontend: String) throws(DriverFailure) {
        try takeUse()
        defer { if engine == nil { releaseUse() } }
        guard let device, let settings else { throw .refused(.noSuchDevice, "no device") }
        let keys: NetworkRequestKeys
        do throws(XenbusError) {
            keys = try NetworkRequestKeys.read(from: store, at: frontend, offer: offer)
        } catch { throw .xenbus(error) }
        var features = keys.features
        features.formIntersection(options.features)
        features = features.consistent
        do { try device.setOffloads(features.abilities.deviceOffloads) } catch {
            throw .refused(error, "\(device.name): setting offloads: \(error)")
        }
        limitMTU(of: device, features)
        engine = try makeEngine(keys, features, device, settings, .fresh)
        device.settle()
        showCarrier(true)
        traces.connected(path.device, engine?.trace)
        do throws(XenbusError) {
            try writeCarrier(store)
            try store.switchState(of: path.path, to: .connected)
        } catch { throw .xenbus(error) }
        wasConnected = true
        note(
            "vif \(path.device): connected: \(device.name), \(keys.queues.count) queues, \(features)"
                + (keys.control == nil ? "" : ", control ring"))
        do throws(XenbusError) { try reread(store, frontend) } catch { throw .xenbus(error) }
    }

    /// The interface is its frontend's from now on.
    func takeUse() throws(DriverFailure) {
        guard exporter?.use(of: path.device).take(for: .frontend) != false else {
            throw .refused(.busy, "\(device?.name ?? "the interface") is in use by another driver, which came another way")
        }
    }

    func releaseUse() { exporter?.use(of: path.device).release(by: .frontend) }

    /// Maps the rings, binds the ports and starts the engine.
    func makeEngine(
        _ keys: NetworkRequestKeys, _ features: NetworkFeatures, _ device: any NetworkDevice, _ settings: NetworkSettings,
        _ start: InterfaceStart
    ) throws(DriverFailure) -> InterfaceEngine {
        var resources = ConnectionResources(isAdopted: start == .adopted) { [report, connections] in
            report(.frontendGone(connection: connections))
        }
        do throws(HypervisorError) {
            for queue in keys.queues { try resources.take(queue, hypervisor, path.device.frontend) }
            if let control = keys.control { try resources.take(control, hypervisor, path.device.frontend) }
        } catch {
            resources.release()
            throw .refused(.invalidArgument, "queue \(resources.queues.count): \(error)")
        }
        let starts: [QueueStart]
        let controlStart: ControlStart?
        do throws(RecoveryError) {
            starts = try self.starts(start, keys, resources)
            controlStart = try self.controlStart(start, keys, resources)
        } catch {
            resources.release()
            throw .refused(.invalidArgument, "\(error)")
        }
        let pool =
            options.dma.bouncePool == 0
            ? nil : BouncePool(name: device.name, byteCount: options.dma.bouncePool, sharers: keys.queues.count)
        let plan = InterfacePlan(
            keys: keys, features: features, device: device, rate: settings.rate, hypervisor: hypervisor,
            frontend: path.device.frontend,
            options: options, random: random, bouncePool: pool, resources: resources, starts: starts, controlStart: controlStart,
            multicastStart: multicastStart(start, keys))
        do throws(DriverFailure) { return try plan.build(on: reactors, report: report) } catch {
            resources.release()
            throw error
        }
    }

    static var settingNodes: Set<Substring> { ["/rate"] }
    static var frontendSettingNodes: [String] { ["/request-multicast-control"] }

    /// What may change while frames flow. A node that makes no sense changes nothing.
    func reread(_ store: StoreClient, _ frontend: String) throws(XenbusError) {
        guard let engine, var settings else { return }
        do throws(XenbusError) {
            let rate = try NetworkSettings.read(from: store, at: path).rate
            if rate != settings.rate {
                settings.rate = rate
                self.settings = settings
                engine.setRate(rate)
                note("vif \(path.device): \(rate.map { "rate \($0.bytes) bytes in \($0.microseconds) µs" } ?? "no rate any more")")
            }
        } catch .malformed(let node) { log("vif \(path.device): \(node)") }
        if options.multicastControl {
            let isOn = try store.flag(frontend + "/request-multicast-control")
            engine.setMulticastControl(isOn)
        }
    }

    var leavesErrors: Bool { options.leavesAttachErrors && !wasConnected }

    /// One line for the log that tells of nothing wrong.
    func note(_ line: String) { (options.notes ?? log)(line) }

    func closeQueues(handingOver: Bool) -> Int {
        if !handingOver { journals?.remove(path) }
        guard let engine else { return 0 }
        connections += 1
        self.engine = nil
        traces.connected(path.device, nil)
        engine.close()
        mayHideCarrier = !handingOver
        return 1
    }

    func letGo() {
        letDeviceGo()
        traces.gone(path.device)
    }

    func handle(_ news: InterfaceReport, _ store: StoreClient) throws(DriverFailure) -> Int {
        switch news {
        case .closed:
            // Not before: a queue that was stalled shows the carrier again at its end.
            if mayHideCarrier { showCarrier(false) }
            releaseUse()
            return 1
        case .frontendGone(let connection):
            guard connection == connections, engine != nil else { return 0 }
            throw .frontendGone
        case .trouble(let line):
            log("vif \(path.device): \(line)")
            return 0
        case .carrier:
            if let device, device.isGone {
                log(
                    "vif \(path.device): \(device.name) is gone: somebody deleted it; what the frontend sends is dropped until it connects again, or is attached again"
                )
            }
            do throws(XenbusError) { try writeCarrier(store) } catch { throw .xenbus(error) }
            return 0
        case .broken(let reason): throw .refused(.invalidArgument, "the frontend broke its ring: \(reason)")
        }
    }
}
