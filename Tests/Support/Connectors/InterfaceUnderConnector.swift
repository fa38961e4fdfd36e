// An interface as a test uses it, under each connector: whole frames.

import BusInterface
import DeviceBus
import DriverRuntime
import InProcess
import LinuxSystem
import NetworkBackend
import NetworkDevices
import NetworkFrontend
import Reactor
import Synchronization
import TestSupport
import Toolstack
import VhostUser
import VirtioBus
import VirtioNetwork
import VirtioRing
import VirtioWire
import XenTypes

/// An interface under a connector.
package protocol InterfaceUnderConnector: AnyObject {
    func send(_ frame: [UInt8]) throws
    /// The next frame that came; nil if none does soon.
    func receive() throws -> [UInt8]?
    /// Ends the connection and whatever carried it.
    func close()
}

extension ConnectorKind {
    /// Puts a driver in front of an interface.
    package func connect(_ device: any NetworkDevice, log: LineCollector) throws -> any InterfaceUnderConnector {
        switch self {
        case .xen: try XenInterfaceRig(device, log)
        case .vhostUser: try VhostInterfaceRig(device, log)
        case .inProcess: try BusInterfaceRig(device, log)
        }
    }
}

/// Time for a frame to come.
private let patience = 20

// MARK: Xen PV

private final class XenInterfaceRig: InterfaceUnderConnector {
    private let service: NetworkBackendService<InProcessHypervisor>
    private let thread: WorkerThread
    private let application: FramePort
    private let frontend: NetworkFrontend<InProcessHypervisor>

    init(_ device: any NetworkDevice, _ log: LineCollector) throws {
        let host = InProcessHost(time: .system)
        let (driverDomain, guest) = (host.domain(0), host.domain(1))
        _ = try DeviceDirectories(store: driverDomain.connectStore()).create(
            VifSpecification(parsing: "mac=00:16:3e:01:02:03"), frontend: DomainID(1), backend: DomainID(0), random: .system)
        let service = NetworkBackendService(
            hypervisor: driverDomain, random: .system, openDevice: { (_) throws(DeviceOpenFailure) in device },
            log: { log.add($0) })
        self.service = service
        thread = try WorkerThread(name: "netback") {
            do { try service.run() } catch { log.add("\(error)") }
        }
        do {
            application = try FramePort(name: "application", time: .system)
            frontend = try NetworkFrontend(hypervisor: guest, number: 0, device: application.device)
            try frontend.connect(timeoutMilliseconds: 20_000)
        } catch {
            service.stop()
            thread.join()
            throw ConnectorTrouble("\(error): \(log.all)")
        }
    }

    func send(_ frame: [UInt8]) throws { try application.send(frame) }
    func receive() throws -> [UInt8]? { try application.receive(timeout: .seconds(patience))?.bytes }
    func close() {
        frontend.close()
        service.stop()
        thread.join()
    }
}

// MARK: vhost-user

private final class VhostInterfaceRig: InterfaceUnderConnector {
    private let reactor: Reactor
    private let driver: VhostDriver
    /// The page of the frame that comes next; what is given is used in order.
    private var next = 0
    private static let pages = 8
    private static let room = 4096

    init(_ device: any NetworkDevice, _ log: LineCollector) throws {
        reactor = try Reactor(name: "rig", time: .system)
        try reactor.start()
        let interface = VirtioInterface(device, name: "rig", on: [reactor], queues: 1) { log.add($0) }
        do {
            driver = try VhostDriver(
                interface, features: [.version1, .eventIndex], rings: 2, pages: 512,
                agreeing: [.replyAck, .memorySlots, .resetDevice, .announcement, .mtu, .status])
            for ring in 0..<2 { try driver.start(ring) }
            for page in 0..<Self.pages { try driver.give(Self.room, page: page) }
        } catch {
            reactor.stop()
            throw error
        }
    }

    func send(_ frame: [UInt8]) throws {
        let ticket = try driver.send(frame: frame, page: 32)
        try driver.expectUsed(ticket, written: 0, on: 1)
    }

    func receive() throws -> [UInt8]? {
        let page = next
        next = (next + 1) % Self.pages
        let used = try driver.reap(on: 0)
        let bytes = driver.region.bytes(at: driver.place(page) + 12, count: Int(used.written) - 12)
        try driver.give(Self.room, page: page)
        return bytes
    }

    func close() {
        driver.leave()
        reactor.stop()
    }
}

// MARK: In process

private final class BusInterfaceRig: InterfaceUnderConnector {
    private let reactor: Reactor
    private let bus = DeviceBus(name: "rig")
    private let interface: BusInterface
    private let frames = FrameBox()

    private final class FrameBox: Sendable {
        private let state = Mutex<[[UInt8]]>([])
        func add(_ frame: [UInt8]) { state.withLock { $0.append(frame) } }
        func take() -> [UInt8]? { state.withLock { $0.isEmpty ? nil : $0.removeFirst() } }
    }

    init(_ device: any NetworkDevice, _ log: LineCollector) throws {
        reactor = try Reactor(name: "rig", time: .system)
        try reactor.start()
        let interface = VirtioInterface(device, name: "rig", on: [reactor], queues: 1) { log.add($0) }
        let frames = frames
        do {
            try bus.add(VirtioBusDevice(interface, name: "net", type: "virtio-network"))
            self.interface = try BusInterface("net", on: bus.join(), received: { frames.add($0) })
        } catch {
            reactor.stop()
            throw error
        }
    }

    func send(_ frame: [UInt8]) throws { try interface.send(frame) }

    func receive() throws -> [UInt8]? {
        var frame: [UInt8]?
        _ = eventually(Int64(patience) * 1000) {
            frame = frames.take()
            return frame != nil
        }
        return frame
    }

    func close() {
        interface.close()
        reactor.stop()
    }
}
