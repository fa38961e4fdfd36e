// Disks of a host and a backend process, their frontends in this one: what a program that links BlockFrontend has.

import BlockFrontend
import CommandSupport
import Loopback
import Reactor
import Toolstack

/// How the two sides of a benchmark's disks are made.
package struct BenchSides {
    /// What `causeway backend` is started with.
    let backendArguments: [String]
    let frontendOptions: BlockFrontendOptions
    /// Of every disk's ring; nil: what a job's depth needs.
    let ringPageOrder: UInt32?
    /// How both sides wait.
    let polling: PollingPolicy

    /// - Parameters:
    ///   - backendArguments: what `causeway backend` is started with.
    ///   - ringPageOrder: of every disk's ring; nil: what a job's depth needs.
    ///   - polling: how both sides wait.
    package init(
        backendArguments: [String], frontendOptions: BlockFrontendOptions, ringPageOrder: UInt32?, polling: PollingPolicy
    ) {
        self.backendArguments = backendArguments
        self.frontendOptions = frontendOptions
        self.ringPageOrder = ringPageOrder
        self.polling = polling
    }
}

final class BenchRig {
    private let sides: BenchSides
    private let host: BenchHost
    private var disks: [BenchDisk] = []

    init(directory: PairDirectory, sides: BenchSides) throws(Failure) {
        self.sides = sides
        host = try BenchHost(in: directory, backend: sides.backendArguments)
    }

    /// Attaches a disk and connects to it from this process.
    func attach(_ specification: String, largestDepth: Int, bufferBytes: Int) throws(Failure) -> BenchDisk {
        let disk = try parseDisk(specification)
        let domain = try GuestDomain.create(name: "bench", in: host.run, store: host.store)
        do {
            _ = try DeviceDirectories(store: host.store).create(.init(disk, frontend: domain))
            let hypervisor = try LoopbackHypervisor.connect(runDirectory: host.run.path, domain: domain, time: .system)
            var options = sides.frontendOptions
            options.depth = largestDepth
            options.bufferPages = max(options.bufferPages, (bufferBytes + 4095) / 4096)
            if sides.ringPageOrder == nil {
                options.ringPageOrder = largestDepth > 64 ? 2 : largestDepth > 32 ? 1 : 0
            }
            let frontend = try BlockFrontend(hypervisor: hypervisor, device: disk.vdev.number, options: options)
            try frontend.connect()
            let bench = try BenchDisk(frontend, policy: sides.polling)
            disks.append(bench)
            return bench
        } catch { throw Failure("bench: \(disk.vdev): \(error)") }
    }

    /// Ends both processes.
    func end() {
        for disk in disks { disk.close() }
        host.end()
    }
}
