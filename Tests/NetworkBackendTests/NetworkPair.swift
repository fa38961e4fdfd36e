// A whole pair in one process: a host, a toolstack, a backend on its threads and a frontend, with a socket at each end where a tap would
// be. Real rings, real io_uring.

import Foundation
import HostDevices
import Hypervisor
import HypervisorCore
@testable import InProcessHypervisor
import LinuxSystem
@testable import NetworkBackend
import NetworkFrontend
import Packets
import SharedMemory
import Synchronization
import Testing
import Toolstack
import XenBus
import XenStore
import XenWire

struct TimedOut: Error {
    let what: String
    init(_ what: String) { self.what = what }
}

/// Collects a service's lines.
final class LineCollector: Sendable {
    private let lines = Mutex<[String]>([])
    func add(_ line: String) { lines.withLock { $0.append(line) } }
    var all: [String] { lines.withLock { $0 } }
}

/// The test's end of a wire: whole frames behind ten bytes of offloads.
final class Wire: Sendable {
    let network: SocketNetwork
    private let descriptor: Descriptor
    static let headerSize = 10

    init(_ name: String) throws {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0, &ends) == 0 else { throw Errno.current }
        for end in ends {
            var bytes: Int32 = 4 << 20
            setsockopt(end, SOL_SOCKET, SO_SNDBUF, &bytes, 4)
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
        }
        descriptor = Descriptor(owning: ends[0])
        network = SocketNetwork(name: name, end: Descriptor(owning: ends[1]))
    }

    func send(_ frame: [UInt8], header: [UInt8] = [UInt8](repeating: 0, count: 10)) throws {
        let bytes = header + frame
        let deadline = monotonicMilliseconds() + 5000
        while write(descriptor.rawValue, bytes, bytes.count) < 0 {
            guard errno == EAGAIN || errno == ENOBUFS, monotonicMilliseconds() < deadline else { throw Errno.current }
            usleep(200)
        }
    }

    /// The next frame with its header; nil if none came in time.
    func receive(milliseconds: Int32 = 3000) throws -> (header: [UInt8], frame: [UInt8])? {
        guard try waitReadable(descriptor.rawValue, -1, milliseconds: milliseconds) else { return nil }
        var buffer = [UInt8](repeating: 0, count: 70_000)
        let count = read(descriptor.rawValue, &buffer, buffer.count)
        guard count >= 10 else { return nil }
        return (Array(buffer[..<10]), Array(buffer[10..<count]))
    }
}

/// A backend that runs until it is stopped.
final class RunningBackend: Sendable {
    let hypervisor: InProcessHypervisor
    let service: NetworkBackendService<InProcessHypervisor>
    private let collector: LineCollector
    private let thread: Mutex<WorkerThread?>

    init(_ host: InProcessHost, domain: UInt16 = 0, _ options: NetworkBackendOptions = .init(), device: any NetworkDevice) throws {
        let hypervisor = host.domain(domain)
        self.hypervisor = hypervisor
        let collected = LineCollector()
        let opener: NetworkOpener = { (_) throws(NetworkOpenFailure) in device }
        let service = NetworkBackendService(
            hypervisor: hypervisor, options: options, openDevice: opener, log: { collected.add($0) })
        self.service = service
        collector = collected
        thread = Mutex(try WorkerThread(name: "netback") { try? service.run() })
    }

    var log: [String] { collector.all }

    /// Ends it as `kill -9` ends a process.
    func kill() {
        hypervisor.disconnect()
        hypervisor.host.store.disconnect(domain: hypervisor.domain)
        thread.withLock { $0.take() }?.join()
    }

    /// The same, and its threads stop where they are before anything else is taken from them: one that lost its hypervisor would answer with
    /// errors, which a killed one cannot.
    func killAtOnce() {
        service.abandon()
        thread.withLock { $0.take() }?.join()
        kill()
    }

    /// Ends it in good order.
    func stop() {
        service.stop()
        thread.withLock { $0.take() }?.join()
    }

    var total: NetworkQueueStatistics {
        var sum = NetworkQueueStatistics()
        for queue in service.status.flatMap(\.queues) {
            sum.transmitted += queue.transmitted
            sum.received += queue.received
            sum.receiveDropped += queue.receiveDropped
            sum.receiveExpired += queue.receiveExpired
            sum.transmitErrors += queue.transmitErrors
            sum.mappedFrames += queue.mappedFrames
            sum.copiedFrames += queue.copiedFrames
            sum.mappedPages += queue.mappedPages
        }
        return sum
    }
}

/// What most tests want: one interface, attached.
struct NetworkPair {
    let host: InProcessHost
    let toolstack: DeviceDirectories
    let backend: RunningBackend
    let guest: InProcessHypervisor
    let paths: DevicePaths
    let backWire: Wire
    let frontWire: Wire

    init(
        _ options: NetworkBackendOptions = .init(), spec: String = "mac=00:16:3e:01:02:03", host: InProcessHost = InProcessHost(),
        backendDomain: UInt16 = 0, device: (any NetworkDevice)? = nil
    ) throws {
        self.host = host
        backWire = try Wire("back")
        frontWire = try Wire("front")
        let client = try host.store.connectInProcess(domain: .zero)
        toolstack = DeviceDirectories(store: client)
        guest = host.domain(1)
        if backendDomain != 0 { try DomainDirectories(store: client).create(DomainID(backendDomain), name: "driver") }
        backend = try RunningBackend(host, domain: backendDomain, options, device: device ?? backWire.network)
        paths = try toolstack.create(
            VifSpecification(parsing: spec), frontend: DomainID(1), backend: DomainID(backendDomain))
    }

    func connect(_ options: NetworkFrontendOptions = .init()) throws -> NetworkFrontend<InProcessHypervisor> {
        let frontend = try NetworkFrontend(
            hypervisor: guest, number: 0, device: frontWire.network, options: options)
        do { try frontend.connect(timeoutMilliseconds: 5000) } catch {
            throw TimedOut("\(error); backend: \(backend.log)")
        }
        return frontend
    }

    func node(_ name: String) throws -> String? { try toolstack.store.value(paths.backendPath + "/" + name) }
}

/// Waits until the host's counters are what they were.
func expectBaseline(_ host: InProcessHost, _ baseline: HypervisorUsage, sourceLocation: SourceLocation = #_sourceLocation) {
    let deadline = monotonicMilliseconds() + 3000
    while host.usage != baseline, monotonicMilliseconds() < deadline { sleepMilliseconds(5) }
    #expect(host.usage == baseline, sourceLocation: sourceLocation)
}

/// Waits until `condition` holds.
func eventually(_ milliseconds: Int64 = 3000, _ condition: () throws -> Bool) rethrows -> Bool {
    let deadline = monotonicMilliseconds() + milliseconds
    while try !condition() {
        if monotonicMilliseconds() > deadline { return false }
        sleepMilliseconds(2)
    }
    return true
}

/// A frame of `count` bytes that is not IP, different for each seed.
func plainFrame(_ count: Int, seed: Int = 0) -> [UInt8] {
    var frame = (0..<max(count, 14)).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ seed &* 7 &+ $0 / 256) }
    frame[0] &= 0xFE
    frame[12] = 0x88
    frame[13] = 0xB5
    return Array(frame[..<count])
}

/// Set once.
final class Flag: Sendable {
    private let value = Atomic<Bool>(false)
    var isSet: Bool { value.load(ordering: .relaxed) }
    func set() { value.store(true, ordering: .relaxed) }
}

/// Numbered frames on their way.
final class LossCount: Sendable {
    private struct State {
        var sent: UInt32 = 0
        var last: UInt32 = 0
        var arrived = 0
        var gaps = 0
        var spoilt = 0
        var isInOrder = true
    }
    private let state = Mutex(State())

    func sent(_ number: UInt32) { state.withLock { $0.sent = number } }
    func got(_ number: UInt32, isWhole: Bool) {
        state.withLock { state in
            if !isWhole { state.spoilt += 1 }
            if number <= state.last { state.isInOrder = false } else { state.gaps += Int(number - state.last) - 1 }
            state.last = number
            state.arrived += 1
        }
    }
    /// More are on the way than rings and sockets hold.
    var isFarAhead: Bool { state.withLock { $0.sent > $0.last + 600 } }
    var arrived: Int { state.withLock { $0.arrived } }
    var gaps: Int { state.withLock { $0.gaps } }
    var spoilt: Int { state.withLock { $0.spoilt } }
    var isInOrder: Bool { state.withLock { $0.isInOrder } }
}
