// Disks of a host and a backend process, their frontends in this one: what a program that links BlockFrontend has.

import BlockFrontend
import Glibc
import LoopbackHypervisor
import Toolstack

final class BenchRig {
    private let features: BlockFeatures
    private let host: BenchHost
    private var disks: [BenchDisk] = []

    init(directory: PairDirectory, features: BlockFeatures, threads: ReactorOptions) throws(Failure) {
        self.features = features
        host = try BenchHost(in: directory, backend: features.arguments + threads.arguments)
    }

    /// Attaches a disk and connects to it from this process.
    func attach(_ specification: String, largestDepth: Int, bufferBytes: Int) throws(Failure) -> BenchDisk {
        let disk = try parseDisk(specification)
        let domain = try GuestDomain.create(name: "bench", in: host.run, store: host.store)
        do {
            _ = try DeviceDirectories(store: host.store).create(.init(disk, frontend: domain))
            let hypervisor = try LoopbackHypervisor.connect(runDirectory: host.run.path, domain: domain)
            var options = features.frontendOptions
            options.depth = largestDepth
            options.bufferPages = max(options.bufferPages, (bufferBytes + 4095) / 4096)
            if features.ringPageOrder == nil {
                options.ringPageOrder = largestDepth > 64 ? 2 : largestDepth > 32 ? 1 : 0
            }
            let frontend = try BlockFrontend(hypervisor: hypervisor, device: disk.vdev.number, options: options)
            try frontend.connect()
            let bench = try BenchDisk(frontend, policy: features.backendOptions.polling)
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
