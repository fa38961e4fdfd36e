// A whole pair in one process: a host, a toolstack, a backend on its threads and a frontend, with a socket at each end
// where a tap would be. Real rings, real io_uring.

import DMA
import DeviceControl
import DriverRuntime
import Foundation
import Hypervisor
import HypervisorRules
import LinuxSystem
@testable import NetworkBackend
import NetworkDevices
import NetworkFrontend
import DeviceTrace
import NetworkTrace
import SharedMemory
import Synchronization
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenTypes

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

    /// Sends if there is room; false if not.
    @discardableResult func offer(_ frame: [UInt8]) -> Bool {
        let bytes = [UInt8](repeating: 0, count: 10) + frame
        return write(descriptor.rawValue, bytes, bytes.count) >= 0
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
    let hypervisor: TestHypervisor
    private let statusNow: @Sendable () -> [InterfaceStatus]
    private let stopService: @Sendable () -> Void
    private let abandonService: @Sendable () -> Void
    /// Its interfaces as whoever looks after them has them.
    let controlled: @Sendable () -> [any ControlledDevice]
    /// What tracers of its interfaces are told.
    let traceSubjects: any TraceSubjects
    private let collector: LineCollector
    private let thread: Mutex<WorkerThread?>

    /// A backend in `domain` whose devices are `device`.
    convenience init(
        _ host: TestHost, domain: UInt16 = 0, _ options: NetworkBackendOptions = .init(), device: any NetworkDevice
    ) throws {
        let hypervisor = host.domain(domain)
        let opener: NetworkOpener = { (_) throws(DeviceOpenFailure) in device }
        try self.init(hypervisor, through: hypervisor, options, opener: opener)
    }

    /// Memory that CAUSEWAY_MEMORY asks for, so that all these tests can run behind each kind: a device that reaches
    /// everything, unless it says `iommu` (scattered frames, a strict IOMMU) or `bounce` (scattered frames that a
    /// 32-bit device cannot reach, and segments that cross no 8 KiB).
    private static func memory(_ given: DMAOptions) -> DMAOptions {
        guard given == DMAOptions() else { return given }
        switch ProcessInfo.processInfo.environment["CAUSEWAY_MEMORY"] {
        case "iommu": return DMAOptions(model: .p2m, iommu: .strict)
        case "bounce":
            return DMAOptions(
                model: .p2m, constraints: DMAConstraints(mask: 0xFFFF_FFFF, boundaryMask: 0x1FFF), bouncePool: 8 << 20)
        default: return given
        }
    }

    /// Threads that CAUSEWAY_REACTORS asks for, where the test itself says nothing.
    static func reactors(_ given: Int) -> Int {
        given == 1 ? Int(ProcessInfo.processInfo.environment["CAUSEWAY_REACTORS"] ?? "") ?? 1 : given
    }

    /// A backend that sees `outer` for a hypervisor, which stands on `hypervisor`.
    init<H: Hypervisor>(
        _ hypervisor: TestHypervisor, through outer: H, _ options: NetworkBackendOptions = .init(),
        opener: @escaping NetworkOpener
    ) throws {
        self.hypervisor = hypervisor
        let collected = LineCollector()
        var options = options
        options.dma = Self.memory(options.dma)
        options.reactors = Self.reactors(options.reactors)
        let service = NetworkBackendService(
            hypervisor: outer, options: options, random: .system, openDevice: opener, log: { collected.add($0) })
        statusNow = { service.status }
        stopService = { service.stop() }
        controlled = { service.controlled { _ in DeviceCounters(read: { [] }, carryOver: { _ in }) } }
        abandonService = { service.abandon() }
        traceSubjects = service.traceSubjects
        collector = collected
        thread = Mutex(
            try WorkerThread(name: "netback") {
                do throws(BackendError) { try service.run() } catch { collected.add("ended: \(error)") }
            })
    }

    var log: [String] { collector.all }
    var status: [InterfaceStatus] { statusNow() }

    /// Ends it as `kill -9` ends a process.
    func kill() {
        hypervisor.disconnect()
        hypervisor.host.store.disconnect(domain: hypervisor.domain)
        thread.withLock { $0.take() }?.join()
    }

    /// The same, and its threads stop where they are before anything else is taken from them: one that lost its
    /// hypervisor would answer with errors, which a killed one cannot.
    func killAtOnce() {
        abandonService()
        thread.withLock { $0.take() }?.join()
        kill()
    }

    /// Ends it in good order.
    func stop() {
        stopService()
        thread.withLock { $0.take() }?.join()
    }

    var total: NetworkQueueStatistics {
        var sum = NetworkQueueStatistics()
        for queue in status.flatMap(\.queues) {
            sum.transmitted += queue.transmitted
            sum.received += queue.received
            sum.receiveDropped += queue.receiveDropped
            sum.receiveExpired += queue.receiveExpired
            sum.transmitErrors += queue.transmitErrors
            sum.transmitDropped += queue.transmitDropped
            sum.notificationsTaken += queue.notificationsTaken
            sum.mappedFrames += queue.mappedFrames
            sum.copiedFrames += queue.copiedFrames
            sum.mappedPages += queue.mappedPages
        }
        return sum
    }
}

/// A backend's device that is not the plain end of a wire.
struct BackEnd {
    let device: any NetworkDevice
    /// What it is at the other end of, if it is.
    let wire: Wire?

    init(_ device: any NetworkDevice, of wire: Wire? = nil) { (self.device, self.wire) = (device, wire) }
}

/// What most tests want: one interface, attached.
struct NetworkPair {
    let host: TestHost
    let toolstack: DeviceDirectories
    let backend: RunningBackend
    let guest: TestHypervisor
    let paths: DevicePaths
    let backWire: Wire
    let frontWire: Wire

    /// - Parameters:
    ///   - backEnd: the backend's device instead of `backWire`, or at the other end of that.
    ///   - start: makes the backend, if not `RunningBackend`'s own way.
    init(
        _ options: NetworkBackendOptions = .init(), spec: String = "mac=00:16:3e:01:02:03",
        host: TestHost = TestHost(time: .system),
        backendDomain: UInt16 = 0, backEnd: BackEnd? = nil,
        start: ((TestHost, any NetworkDevice) throws -> RunningBackend)? = nil
    ) throws {
        self.host = host
        backWire = try backEnd?.wire ?? Wire("back")
        frontWire = try Wire("front")
        let client = try host.store.connectInProcess(domain: .zero)
        toolstack = DeviceDirectories(store: client)
        guest = host.domain(1)
        if backendDomain != 0 {
            try DomainDirectories(store: client).create(DomainID(backendDomain), name: "driver", uuid: "driver")
        }
        let device: any NetworkDevice = backEnd?.device ?? backWire.network
        backend = try start?(host, device) ?? RunningBackend(host, domain: backendDomain, options, device: device)
        paths = try toolstack.create(
            VifSpecification(parsing: spec), frontend: DomainID(1), backend: DomainID(backendDomain), random: .system)
    }

    func connect(_ options: NetworkFrontendOptions = .init()) throws -> NetworkFrontend<TestHypervisor> {
        var options = options
        options.reactors = RunningBackend.reactors(options.reactors)
        let frontend = try NetworkFrontend(
            hypervisor: guest, number: 0, device: frontWire.network, options: options)
        do { try frontend.connect(timeoutMilliseconds: 5000) } catch {
            throw TimedOut("\(error); backend: \(backend.log)")
        }
        return frontend
    }

    /// Sends `count` frames of different sizes each way, and expects each to arrive as it was sent.
    func exchange(_ count: Int, seed: Int, sourceLocation: SourceLocation = #_sourceLocation) throws {
        for number in 0..<count {
            let frame = plainFrame(60 + number * 97, seed: seed + number)
            try frontWire.send(frame)
            let out = try backWire.receive()?.frame
            #expect(out == frame, sourceLocation: sourceLocation)
            try backWire.send(frame)
            let back = try frontWire.receive()?.frame
            #expect(back == frame, sourceLocation: sourceLocation)
        }
    }

    func node(_ name: String) throws -> String? { try toolstack.store.value(paths.backendPath + "/" + name) }
}

/// Processor time that this process has used so far, in milliseconds: what an idle moment costs shows whether somebody
/// spins.
func processorMilliseconds() -> Int64 {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return Int64(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 + Int64(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec)
        / 1000
}

/// This process's memory, in KiB.
func residentKilobytes() -> Int {
    guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8),
        let pages = Int(text.split(separator: " ")[1])
    else { return 0 }
    return pages * 4
}

/// How often a test that repeats itself does so: what is said here, or as many times more as CAUSEWAY_SOAK says.
func soak(_ rounds: Int) -> Int { rounds * max(1, Int(ProcessInfo.processInfo.environment["CAUSEWAY_SOAK"] ?? "") ?? 1) }

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
