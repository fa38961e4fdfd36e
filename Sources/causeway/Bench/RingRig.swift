// Frames through the rings alone: a host and a backend as processes, a frontend in this one, and memory where taps would be.

import Glibc
import HostDevices
import LinuxSystem
import LoopbackHypervisor
import NetworkFrontend
import Toolstack
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

    private let features: VifFeatures
    private let threads: ReactorOptions
    private let host: BenchHost

    init(directory: PairDirectory, features: VifFeatures, threads: ReactorOptions) throws(Failure) {
        self.features = features
        self.threads = threads
        host = try BenchHost(in: directory, backend: ["--memory-vifs"] + features.arguments + threads.arguments)
    }

    /// One interface for so long: frames of `byteCount` bytes go one way as fast as they can.
    func run(byteCount: Int, fromFrontend: Bool, seconds: Double) throws(Failure) -> Load {
        let domain = try GuestDomain.create(name: "bench", in: host.run, store: host.store)
        defer { try? GuestDomain.destroy(domain, in: host.run, store: host.store) }
        do {
            var vif = VifSpecification()
            vif.name = fromFrontend ? "null" : "frames\(byteCount)"
            _ = try DeviceDirectories(store: host.store).create(vif, frontend: domain)
            let hypervisor = try LoopbackHypervisor.connect(runDirectory: host.run.path, domain: domain)
            defer { hypervisor.disconnect() }
            let device: any NetworkDevice = fromFrontend ? try EndlessNetwork(byteCount: byteCount) : NullNetwork()
            var options = features.frontendOptions
            // One queue, unless more are asked for: what its two threads can do.
            options.queues = Int(features.vifQueues ?? 1)
            options.reactors = threads.reactors ?? 1
            let frontend = try NetworkFrontend(hypervisor: hypervisor, number: 0, device: device, options: options)
            try frontend.connect()
            defer { frontend.close() }
            // The first frames find cold caches.
            usleep(50_000)
            let processes = [getpid(), host.backend.process]
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
        queues.reduce(FrontendQueueStatistics(), +)
    }

    /// Ends both processes.
    func end() { host.end() }
}
