// Frames through the rings alone: a host and a backend as processes, a frontend in this one, and memory where taps
// would be.

import CommandSupport
import Glibc
import LinuxSystem
import Loopback
import NetworkDevices
import NetworkFrontend
import Toolstack

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

    private let frontendOptions: NetworkFrontendOptions
    private let host: BenchHost

    /// - Parameters:
    ///   - backend: the backend's arguments.
    ///   - frontend: options of the frontend.
    init(directory: PairDirectory, backend arguments: [String], frontend options: NetworkFrontendOptions) throws(Failure) {
        frontendOptions = options
        host = try BenchHost(in: directory, backend: ["--memory-vifs"] + arguments)
    }

    /// One interface for so long: frames of `byteCount` bytes go one way as fast as they can.
    func run(byteCount: Int, fromFrontend: Bool, seconds: Double) throws(Failure) -> Load {
        let domain = try GuestDomain.create(name: "bench", in: host.run, store: host.store)
        defer { try? GuestDomain.destroy(domain, in: host.run, store: host.store) }
        do {
            var vif = VifSpecification()
            vif.name = fromFrontend ? "null" : "frames\(byteCount)"
            _ = try DeviceDirectories(store: host.store).create(vif, frontend: domain, random: .system)
            let hypervisor = try LoopbackHypervisor.connect(runDirectory: host.run.path, domain: domain, time: .system)
            defer { hypervisor.disconnect() }
            let device: any NetworkDevice = fromFrontend ? try EndlessNetwork(byteCount: byteCount) : NullNetwork()
            let frontend = try NetworkFrontend(hypervisor: hypervisor, number: 0, device: device, options: frontendOptions)
            try frontend.connect()
            defer { frontend.close() }
            // The first frames find cold caches.
            SystemTime().sleep(milliseconds: 50)
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
