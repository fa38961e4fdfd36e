// A flat device as a test uses it, under each connector.

import DeviceBus
import InProcess
import LinuxSystem
import PageDevices
import TestSupport
import VhostUser
import VirtioBus
import VirtioWire
import XenDeviceBus
import XenTypes

/// A flat device under a connector.
package protocol PageUnderConnector: AnyObject {
    /// Its bytes as they are now.
    func read() throws -> [UInt8]
    func write(_ bytes: [UInt8], at offset: Int) throws
    /// How often a change was told so far.
    var changes: Int { get }
    /// Ends the connection and whatever carried it.
    func close()
}

extension ConnectorKind {
    /// Puts a driver in front of a flat device.
    package func connect(_ device: any FlatDevice, log: LineCollector) throws -> any PageUnderConnector {
        let bus = DeviceBus(name: "rig")
        try bus.add(FlatBusDevice(device, name: "page") { log.add($0) })
        return switch self {
        case .xen: try XenPageRig(bus, device.layout, log)
        case .vhostUser: try VhostPageRig(bus, device.layout, log)
        case .inProcess: try BusPageRig(bus, device.layout)
        }
    }
}

// MARK: Xen PV

private final class XenPageRig: PageUnderConnector {
    private let service: BusBackendService<InProcessHypervisor>
    private let thread: WorkerThread
    private let frontend: FlatFrontend<InProcessHypervisor>
    private let told = LineCollector()

    init(_ bus: DeviceBus, _ layout: FlatLayout, _ log: LineCollector) throws {
        let host = InProcessHost(time: .system)
        let (driverDomain, guest) = (host.domain(0), host.domain(1))
        try BusDirectories.create("page", number: 0, frontend: DomainID(1), in: driverDomain.connectStore())
        let service = BusBackendService(hypervisor: driverDomain, member: bus.join()) { log.add($0) }
        self.service = service
        thread = try WorkerThread(name: "busback") {
            do { try service.run() } catch { log.add("\(error)") }
        }
        let told = told
        do {
            frontend = try FlatFrontend(
                hypervisor: guest, number: 0, layout, changed: { told.add("changed") }, log: { log.add($0) })
            try frontend.connect(timeoutMilliseconds: 20_000)
        } catch {
            service.stop()
            thread.join()
            throw ConnectorTrouble("\(error): \(log.all)")
        }
    }

    func read() throws -> [UInt8] { try frontend.read() }
    func write(_ bytes: [UInt8], at offset: Int) throws { try frontend.write(bytes, at: offset) }
    var changes: Int { told.all.count }
    func close() {
        frontend.close()
        service.stop()
        thread.join()
    }
}

// MARK: vhost-user

private final class VhostPageRig: PageUnderConnector {
    private let driver: VhostDriver
    private let layout: FlatLayout
    private let back: Descriptor
    private var told = 0

    init(_ bus: DeviceBus, _ layout: FlatLayout, _ log: LineCollector) throws {
        self.layout = layout
        let device = VhostFlatDevice("page", on: bus.join()) { log.add($0) }
        driver = try VhostDriver(
            device, features: .version1, rings: 0, pages: 1, agreeing: [.replyAck, .backendRequests, .configuration, .memorySlots])
        let (ours, theirs) = try StreamSocket.pair()
        back = ours
        try driver.send(21, descriptors: [theirs])
    }

    func read() throws -> [UInt8] {
        let question = [0, UInt32(layout.byteCount), 0].flatMap { WireNumber.bytes($0) }
        let answer = try driver.exchange(24, question + [UInt8](repeating: 0, count: layout.byteCount), [])
        return Array(answer.dropFirst(12))
    }

    func write(_ bytes: [UInt8], at offset: Int) throws {
        driver.expectsAgreement = false
        let head = [UInt32(offset), UInt32(bytes.count), 0].flatMap { WireNumber.bytes($0) }
        let answer = try driver.exchange(25, head + bytes, [])
        guard answer.allSatisfy({ $0 == 0 }) else { throw ConnectorTrouble("refused") }
    }

    /// Messages about a changed configuration: 12 bytes each.
    var changes: Int {
        told += ((try? StreamSocket.receive(back.rawValue, capacity: 1 << 16, wait: false)) ?? []).count / 12
        return told
    }

    func close() { driver.leave() }
}

// MARK: In process

private final class BusPageRig: PageUnderConnector {
    private let client: FlatClient
    private let told = LineCollector()

    init(_ bus: DeviceBus, _ layout: FlatLayout) throws {
        let told = told
        client = try FlatClient(layout, name: "page", on: bus.join(), changed: { told.add("changed") })
    }

    func read() throws -> [UInt8] { try client.read() }
    func write(_ bytes: [UInt8], at offset: Int) throws { try client.write(bytes, at: offset) }
    var changes: Int { told.all.count }
    func close() { client.close() }
}
