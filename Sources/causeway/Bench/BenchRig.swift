// A host and a backend as processes, and frontends in this one: what a program that links BlockFrontend has.

import BlockFrontend
import Glibc
import LoopbackHypervisor
import Toolstack
import XenStore

final class BenchRig {
    private let directory: PairDirectory
    private let features: BlockFeatures
    private let host: ChildProcess
    private let backend: ChildProcess
    private let store: StoreClient
    private var disks: [BenchDisk] = []

    init(directory: PairDirectory, features: BlockFeatures) throws(Failure) {
        self.directory = directory
        self.features = features
        let host = try ChildProcess.startHost(in: directory.run)
        do throws(Failure) {
            backend = try ChildProcess.startRole(["backend"] + features.arguments, in: directory.run)
            store = try directory.run.connectStore()
        } catch {
            host.stop(milliseconds: 1000)
            throw error
        }
        self.host = host
    }

    /// Attaches a disk and connects to it from this process.
    func attach(_ specification: String, largestDepth: Int, bufferBytes: Int) throws(Failure) -> BenchDisk {
        let disk = try parseDisk(specification)
        let domain = try GuestDomain.create(name: "bench", in: directory.run, store: store)
        do {
            _ = try DeviceDirectories(store: store).create(.init(disk, frontend: domain))
            let hypervisor = try LoopbackHypervisor.connect(runDirectory: directory.run.path, domain: domain)
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
        store.close()
        backend.stop(milliseconds: 5000)
        host.stop(milliseconds: 5000)
    }
}
