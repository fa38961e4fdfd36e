// Interfaces behind vhost-user sockets: taps, cables between two of them, and what has nothing behind it.

import CommandSupport
import DriverRuntime
import Glibc
import LinuxSystem
import NetworkBackend
import NetworkDevices
import Reactor
import Toolstack
import VhostUser
import VifTaps
import VirtioNetwork
import XenBus
import XenTypes

/// One interface and its socket.
struct ExportedVif {
    /// What an interface is to be.
    struct Plan {
        var specification: VifSpecification
        var hasNothingBehind = false
        /// The number of the one at the other end of its cable.
        var peer: Int?
    }

    let index: Int
    let mac: MACAddress
    let device: any NetworkDevice
    let interface: VirtioInterface
    let place: any VhostPlace
    /// Its tap on this host, if it has one.
    let tap: String?
    /// As many as are offered.
    let queues: Int
    /// Whether the front end listens.
    let isClient: Bool

    /// For `causeway device`.
    var control: VhostControl { VhostControl("vif\(index)", place, interface, address: mac, time: SystemTime()) }
    /// As messages name it.
    static func name(_ index: Int) -> String { "vif \(index)" }
    /// What is behind it, for whoever takes it over.
    var behind: ExportedDevice.Behind { ExportedDevice.Behind(mac: mac, tap: tap, device: device) }
    /// For whoever takes it over.
    var served: ExportedDevice? { server.map { ExportedDevice(name: Self.name(index), server: $0, vif: behind) } }
    /// What front ends come to; nil: they listen themselves.
    var server: VhostServer? { place as? VhostServer }

    /// What COMMAND sees.
    var variables: [String: String] {
        var variables = ["CAUSEWAY_VHOST_\(index)": place.path]
        if let tap { variables["CAUSEWAY_TAP_BACK_\(index)"] = tap }
        return variables
    }

    /// What gives QEMU this interface.
    var qemuArguments: String {
        QemuArguments.interface(
            index, at: place.path, mac: mac, mtu: device.mtu, queues: queues, isClient ? .waits : .comes)
    }
}

extension ExportedVif {
    /// What each specification asks for; a cable's makes two.
    static func plans(_ texts: [String]) throws(Failure) -> [Plan] {
        var plans: [Plan] = []
        for text in texts {
            var plan = try plan(text)
            try expectSense(plan)
            if let name = plan.specification.name, plans.contains(where: { $0.specification.name == name }) {
                throw .usage("--vif: vifname: \(name): given twice")
            }
            guard case .address(let address) = plan.specification.peer else {
                plans.append(plan)
                continue
            }
            var other = plan
            other.specification.mac = address
            (plan.peer, other.peer) = (plans.count + 1, plans.count)
            plans += [plan, other]
        }
        return plans
    }

    private static func plan(_ text: String) throws(Failure) -> Plan {
        guard text == "null" || text.hasPrefix("null,") else { return Plan(specification: try parseVif(text)) }
        return Plan(specification: try parseVif(String(text.dropFirst("null,".count))), hasNothingBehind: true)
    }

    /// What has no meaning here is a mistake, and not left out.
    private static func expectSense(_ plan: Plan) throws(Failure) {
        let vif = plan.specification
        let foreign: [(Bool, String)] = [
            (vif.backend != nil, "backend"), (vif.rate != nil, "rate"), (vif.script != nil, "script"),
            (vif.gatewayDevice != nil, "gatewaydev"), (vif.ip != nil, "ip"), (vif.number != nil, "devid"),
            (vif.trusted != nil, "trusted"), (vif.front == .xen, "front"),
        ]
        for (isGiven, key) in foreign where isGiven { throw .usage("--vif: \(key): for Xen's guests; export has none") }
        if case .device = vif.peer {
            throw .usage("--vif: peer: the address of the interface at the other end, which is made, too")
        }
        let behind: [(Bool, String)] = [
            (vif.bridge != nil, "bridge"), (vif.name != nil, "vifname"), (vif.vlans != nil, "vlan"), (vif.peer != nil, "peer"),
        ]
        for (isGiven, key) in behind where isGiven && plan.hasNothingBehind {
            throw .usage("--vif: null: \(key): it has nothing behind it")
        }
        try expectVLANs(vif)
    }
}

extension ExportSession {
    /// Opens an interface and listens for its front end.
    mutating func add(
        _ plan: ExportedVif.Plan, at meeting: ExportPlace, queues: Int, reactors count: Int, _ loudness: QuietOption
    ) throws(Failure) {
        let index = vifs.count
        let mac = plan.specification.mac ?? VifSpecification.randomAddress(from: .system)
        let tap = plan.hasNothingBehind || plan.peer != nil ? nil : plan.specification.name ?? "cw\(getpid()).\(index)"
        let device = try open(plan, index, mac, tap, resuming: nil)
        let interface = try interface(device, plan, queues: queues, reactors: count, loudness)
        let behind = ExportedDevice.Behind(mac: mac, tap: tap, device: device)
        let place: any VhostPlace
        do throws(Failure) {
            place = try serve(interface, ExportedVif.name(index), at: meeting, behind)
        } catch {
            device.retire()
            throw error
        }
        vifs.append(
            ExportedVif(
                index: index, mac: mac, device: device, interface: interface, place: place, tap: tap,
                queues: interface.offer.queues, isClient: isClient))
        var there = "nothing behind it"
        if let tap { there = "\(tap)\(plan.specification.bridge.map { " on \($0)" } ?? "") here" }
        if let peer = plan.peer { there = "a cable to vif \(peer)" }
        loudness.say("vif \(index): \(mac), \(there), \(way(to: meeting))")
    }

    /// Goes on with an interface where a predecessor has put it by, or was killed.
    /// - Parameter began: called once its front end is served, or cannot be. From any thread.
    mutating func resume(
        _ plan: ExportedVif.Plan, _ left: LeftDevice, queues: Int, reactors count: Int, _ loudness: QuietOption,
        began: @escaping @Sendable () -> Void
    ) throws(Failure) {
        let index = vifs.count
        guard let vif = left.vif, let mac = vif.mac, let lifeline = vif.lifeline else {
            throw Failure("export: \(left.name): what is behind it has not come along")
        }
        let device = try open(plan, index, mac, vif.tap, resuming: lifeline)
        let interface = try interface(device, plan, queues: queues, reactors: count, loudness)
        let behind = ExportedDevice.Behind(mac: mac, tap: vif.tap, device: device)
        let server = try places.resume(interface, left, try kept(left.name, at: left.path, behind), began: began).server
        vifs.append(
            ExportedVif(
                index: index, mac: mac, device: device, interface: interface, place: server, tap: vif.tap,
                queues: interface.offer.queues, isClient: false))
    }

    private mutating func interface(
        _ device: any NetworkDevice, _ plan: ExportedVif.Plan, queues: Int, reactors count: Int, _ loudness: QuietOption
    ) throws(Failure) -> VirtioInterface {
        if interfaceReactors.isEmpty { interfaceReactors = try Self.startReactors("net", count, .onHost) }
        let name = ExportedVif.name(vifs.count)
        // A cable has one way through.
        return VirtioInterface(device, name: name, on: interfaceReactors, queues: plan.peer == nil ? queues : 1) {
            complain("export: \($0)")
        } left: { counts in
            note("export: \(name): \(counts)")
        }
    }

    private func open(
        _ plan: ExportedVif.Plan, _ index: Int, _ mac: MACAddress, _ tap: String?, resuming lifeline: [Descriptor]?
    ) throws(Failure) -> any NetworkDevice {
        let name = ExportedVif.name(index)
        let mtu = plan.specification.mtu.map { Int($0) }
        if plan.hasNothingBehind { return NullNetwork(mtu: mtu ?? NetworkSettings.usualMTU) }
        if let peer = plan.peer {
            do throws(Errno) {
                return try links.end(
                    of: name, to: ExportedVif.name(peer), mtu: mtu ?? NetworkSettings.usualMTU, resuming: lifeline)
            } catch { throw Failure("export: \(name): \(error)") }
        }
        var settings = NetworkSettings(device: DeviceID(frontend: .zero, number: UInt32(index)), address: mac)
        settings.name = tap
        settings.bridge = plan.specification.bridge
        settings.vlans = plan.specification.vlans
        settings.wantedMTU = mtu
        do throws(DeviceOpenFailure) { return try taps.open(settings, resuming: lifeline) } catch {
            throw Failure("export: \(name): \(error)")
        }
    }
}
