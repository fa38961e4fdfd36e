// A whole pair in one process: a host, a toolstack, a backend on its threads, and a frontend. Real files, real
// io_uring, real rings.

import BlockBackend
import BlockDevices
import BlockFrontend
import DriverRuntime
import Foundation
import Hypervisor
import HypervisorRules
import LinuxSystem
import SharedMemory
import Synchronization
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenTypes

extension TemporaryDirectory {
    /// A file of `byteCount` bytes whose sector n holds n in each of its 64-bit words.
    func image(_ name: String = "disk.img", byteCount: Int) -> String {
        var words = [UInt64](repeating: 0, count: byteCount / 8)
        for index in words.indices { words[index] = UInt64(index / 64) }
        let data = words.withUnsafeBytes { Data($0) }
        let file = path + "/" + name
        try! data.write(to: URL(fileURLWithPath: file))
        return file
    }
}

/// Opens a plain file.
@Sendable func openFile(_ settings: DiskSettings) throws(DeviceOpenFailure) -> any BlockDevice {
    do throws(DeviceError) {
        // Shared: a killed backend's locks end with its process, which here is the test's own.
        return try FileDisk(path: settings.target, readOnly: !settings.isWritable, sharing: .shared)
    } catch { throw DeviceOpenFailure(.noSuchFile, error.description) }
}

/// A backend that runs until it is stopped.
final class RunningBackend: Sendable {
    let hypervisor: TestHypervisor
    let service: BlockBackendService<TestHypervisor>
    private let thread: Mutex<WorkerThread?>

    init(
        _ host: TestHost, domain: UInt16 = 0, _ options: BlockBackendOptions = BlockBackendOptions(),
        opener: DiskOpener? = nil, exporter: (any DeviceExporter<any BlockDevice>)? = nil
    ) throws {
        let hypervisor = host.domain(domain)
        self.hypervisor = hypervisor
        let collected = LineCollector()
        // Not `??`: the compiler (6.3.1) crashes on a typed-throwing closure in an autoclosure.
        var opener = opener
        if opener == nil { opener = openFile }
        let service = BlockBackendService(
            hypervisor: hypervisor, options: options, openDisk: opener!, exporter: exporter, log: { collected.add($0) })
        self.service = service
        self.collector = collected
        thread = Mutex(try WorkerThread(name: "backend") { try? service.run() })
    }
    private let collector: LineCollector

    var log: [String] { collector.all }

    /// Waits until its threads have ended.
    func join() { thread.withLock { $0.take() }?.join() }

    /// Ends it as `kill -9` ends a process: its mappings, ports and store connection go without a word, the nodes stay.
    func kill() {
        hypervisor.disconnect()
        hypervisor.host.store.disconnect(domain: hypervisor.domain)
        thread.withLock { $0.take() }?.join()
    }

    /// Ends it in good order.
    func stop() {
        service.stop()
        thread.withLock { $0.take() }?.join()
    }
}

/// What most tests want: one disk, attached.
struct BlockPair {
    let host: TestHost
    let scratch: TemporaryDirectory
    let toolstack: DeviceDirectories
    let backend: RunningBackend
    let guest: TestHypervisor
    var paths: DevicePaths
    let image: String

    init(
        byteCount: Int = 4 << 20, spec: String = ",raw,xvda,w", backendOptions: BlockBackendOptions = BlockBackendOptions(),
        host: TestHost = TestHost(time: .system), backendDomain: UInt16 = 0, opener: DiskOpener? = nil,
        exporter: (any DeviceExporter<any BlockDevice>)? = nil
    ) throws {
        self.host = host
        scratch = try TemporaryDirectory()
        image = scratch.image(byteCount: byteCount)
        let client = try host.store.connectInProcess(domain: .zero)
        toolstack = DeviceDirectories(store: client)
        guest = host.domain(1)
        if backendDomain != 0 {
            try DomainDirectories(store: client).create(DomainID(backendDomain), name: "driver", uuid: "driver")
        }
        backend = try RunningBackend(host, domain: backendDomain, backendOptions, opener: opener, exporter: exporter)
        paths = try toolstack.create(
            DeviceDirectories.Attachment(
                try DiskSpecification(parsing: image + spec), frontend: DomainID(1),
                backend: DomainID(backendDomain)))
    }

    func connect(_ options: BlockFrontendOptions = BlockFrontendOptions()) throws -> BlockFrontend<TestHypervisor> {
        let frontend = try BlockFrontend(hypervisor: guest, device: 51712, options: options)
        try frontend.connect(timeoutMilliseconds: 5000)
        return frontend
    }
}

extension BlockQueue {
    /// Submits one operation and waits for its end.
    mutating func perform(
        _ command: BlockCommand, sector: UInt64 = 0, bufferOffset: Int = 0, byteCount: Int = 0, milliseconds: Int64 = 10_000
    ) throws -> BlockOutcome {
        guard try submit(command, sector: sector, bufferOffset: bufferOffset, byteCount: byteCount, tag: 77) else {
            throw BlockFrontendError.badRequest("full")
        }
        kick()
        return try waitForAll(milliseconds: milliseconds).first?.outcome ?? .lost
    }

    /// Reaps until nothing is in flight.
    mutating func waitForAll(milliseconds: Int64 = 10_000) throws -> [BlockCompletion] {
        var all: [BlockCompletion] = []
        let deadline = monotonicMilliseconds() + milliseconds
        while inFlight > 0 || hasEnded {
            reap { all.append($0) }
            if inFlight == 0 { continue }
            guard monotonicMilliseconds() < deadline else { throw BlockFrontendError.timedOut("\(inFlight) operations") }
            try wait(milliseconds: 100)
        }
        return all
    }
}

extension BlockPair {
    /// A node of the backend's directory.
    func node(_ name: String) throws -> String? { try toolstack.store.value(paths.backendPath + "/" + name) }
}
