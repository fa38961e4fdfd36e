// The block pair in one process, two threads, in-process hypervisor: the data path alone, for profiling. `causeway
// bench block` is the real thing, with processes. pair-bench TARGET BLOCKSIZE DEPTH poll|sleep [SECONDS]

import BlockBackend
import BlockDevices
import BlockFrontend
import DriverRuntime
import Foundation
import Hypervisor
import InProcess
import LinuxSystem
import Toolstack
import XenTypes

@main struct PairBench {
    static func main() throws {
        let arguments = CommandLine.arguments
        guard arguments.count > 4, let blockSize = Int(arguments[2]), let depth = Int(arguments[3]),
            let seconds = arguments.count > 5 ? Double(arguments[5]) : 3
        else { fatalError("usage: pair-bench TARGET BYTES DEPTH poll|sleep [SECONDS]") }
        let target = arguments[1]
        let polls = arguments[4] == "poll"
        let host = InProcessHost(time: .system)
        var backendOptions = BlockBackendOptions()
        backendOptions.polling = polls ? .always : .sleep
        let service = BlockBackendService(hypervisor: host.domain(0), options: backendOptions, openDisk: open)
        _ = try WorkerThread(name: "backend") { try? service.run() }
        let toolstack = DeviceDirectories(store: try host.store.connectInProcess(domain: .zero))
        _ = try toolstack.create(
            .init(try DiskSpecification(parsing: "\(target),raw,xvda,w"), frontend: DomainID(1)))
        var options = BlockFrontendOptions()
        options.depth = 128
        options.ringPageOrder = 3
        options.bufferPages = 4096
        let frontend = try BlockFrontend(hypervisor: host.domain(1), device: 51712, options: options) { print($0) }
        try frontend.connect()
        var queue = try frontend.takeQueue(0)
        let load = BlockLoad(
            .read, blockSize: blockSize, depth: depth, milliseconds: Int(seconds * 1000), polls: polls)
        for _ in 0..<3 {
            let result = try queue.measure(load)
            print(
                "\(Int(result.rate)) operations a second, \(result.failures) failures, "
                    + "\(result.eventsPerOperation) events an operation")
        }
        print(service.status)
        exit(0)
    }

    @Sendable static func open(_ settings: DiskSettings) throws(DeviceOpenFailure) -> any BlockDevice {
        if settings.target.hasPrefix("/null") { return NullDisk(byteCount: 1 << 30) }
        do throws(DeviceError) { return try FileDisk(path: settings.target, readOnly: !settings.isWritable) } catch {
            throw DeviceOpenFailure(.noSuchFile, error.description)
        }
    }
}
