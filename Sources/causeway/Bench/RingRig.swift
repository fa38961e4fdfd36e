// Frames through the rings alone: a host and a backend as processes, a frontend in this one, and memory where taps would be.

import Glibc
import HostDevices
import LinuxSystem
import LoopbackHypervisor
import NetworkFrontend
import Toolstack
import XenStore
import XenWire

final class RingRig {
    /// What one run did.
    struct Load {
        var packets: Double
        var perSecond: Double
        /// Of both processes.
        var processorNanoseconds: Double
        /// Doorbells rung, both ways.
        var events: Double
    }

    private let directory: PairDirectory
    private let features: VifFeatures
    private let host: ChildProcess
    private let backend: ChildProcess
    private let store: StoreClient

    init(directory: PairDirectory, features: VifFeatures) throws(Failure) {
        self.directory = directory
        self.features = features
        let host = try ChildProcess.startHost(in: directory.run)
        do throws(Failure) {
            backend = try ChildProcess.startRole(["backend", "--memory-vifs"] + features.arguments, in: directory.run)
            store = try directory.run.connectStore()
        } catch {
            host.stop(milliseconds: 1000)
            throw error
        }
        self.host = host
    }

    /// One interface for so long: frames of `byteCount` bytes go one way as fast as they can.
    func run(byteCount: Int, fromFrontend: Bool, seconds: Double) throws(Failure) -> Load {
        let domain = try GuestDomain.create(name: "bench", in: directory.run, store: store)
        defer { try? GuestDomain.destroy(domain, in: directory.run, store: store) }
        do {
            var vif = VifSpecification()
            vif.name = fromFrontend ? "null" : "frames\(byteCount)"
            _ = try DeviceDirectories(store: store).create(vif, frontend: domain)
            let hypervisor = try LoopbackHypervisor.connect(runDirectory: directory.run.path, domain: domain)
            defer { hypervisor.disconnect() }
            let device: any NetworkDevice = fromFrontend ? try EndlessNetwork(byteCount: byteCount) : NullNetwork()
            let frontend = try NetworkFrontend(hypervisor: hypervisor, number: 0, device: device, options: features.frontendOptions)
            try frontend.connect()
            defer { frontend.close() }
            // The first frames find cold caches.
            usleep(50_000)
            let processes = [getpid(), backend.process]
            let (before, used, start) = (
                Self.total(frontend.statistics), ProcessorTime.nanoseconds(of: processes), ContinuousClock.now
            )
            usleep(UInt32(seconds * 1e6))
            let after = Self.total(frontend.statistics)
            let time = (ContinuousClock.now - start) / .seconds(1)
            let packets = Double(fromFrontend ? after.transmitted - before.transmitted : after.received - before.received)
            return Load(
                packets: packets, perSecond: packets / time,
                processorNanoseconds: Double(ProcessorTime.nanoseconds(of: processes) - used),
                events: Double(
                    after.notificationsSent - before.notificationsSent + after.notificationsTaken - before.notificationsTaken))
        } catch { throw Failure("bench: rings: \(error)") }
    }

    private static func total(_ queues: [FrontendQueueStatistics]) -> FrontendQueueStatistics {
        var sum = FrontendQueueStatistics()
        for queue in queues {
            sum.transmitted += queue.transmitted
            sum.received += queue.received
            sum.notificationsSent += queue.notificationsSent
            sum.notificationsTaken += queue.notificationsTaken
        }
        return sum
    }

    /// Ends both processes.
    func end() {
        store.close()
        backend.stop(milliseconds: 5000)
        host.stop(milliseconds: 5000)
    }
}
