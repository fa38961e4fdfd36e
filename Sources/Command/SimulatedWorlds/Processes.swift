// The two processes of a simulated pair.

import BlockBackend
import BlockFrontend
import DriverRuntime
import InProcess
import LinuxSystem
import Reactor
import Simulation
import XenBus

/// A backend's process.
final class BackendProcess {
    let hypervisor: InProcessHypervisor
    let service: BlockBackendService<InProcessHypervisor>
    let stepped: SteppedBlockBackend<InProcessHypervisor>
    /// It was asked to end.
    var isEnding = false

    init(_ world: BlockWorld) throws {
        let (host, disk) = (world.host, world.disk)
        hypervisor = host.process(of: BlockWorld.driver)
        service = BlockBackendService(
            hypervisor: hypervisor, options: world.options, openDisk: { _ throws(DeviceOpenFailure) in disk },
            log: { line in host.trace.note(6 << 32, "backend: \(line)") })
        do { stepped = try service.begin() } catch {
            host.kill(hypervisor)
            throw error
        }
    }
}

/// A frontend's process, with the disk's users in it.
final class FrontendProcess {
    let hypervisor: InProcessHypervisor
    let frontend: BlockFrontend<InProcessHypervisor>
    var stepped: SteppedBlockFrontend<InProcessHypervisor>
    private(set) var users: [DiskUser] = []
    private let world: BlockWorld
    /// It was asked to close.
    var isEnding = false
    /// When the control thread goes on.
    private(set) var pausedUntil: UInt64 = 0
    /// It has nothing to do until the store tells something, or somebody wakes it.
    private var waitsForEvent = false

    init(_ world: BlockWorld) throws {
        self.world = world
        let host = world.host
        hypervisor = host.process(of: BlockWorld.guest)
        frontend = try BlockFrontend(
            hypervisor: hypervisor, device: BlockWorld.device, options: world.frontendOptions,
            log: { line in host.trace.note(7 << 32, "frontend: \(line)") })
        stepped = frontend.begin()
    }

    /// Why a queue is of no more use, as long as nobody wants it to end.
    var failure: BlockFrontendError? { isEnding ? nil : users.lazy.compactMap(\.failure).first }
    var inFlight: Int { users.reduce(0) { $0 + $1.inFlight } }

    /// One turn of the control thread: true if it did something, nil if it is over.
    /// - Parameter isWoken: whether it looks even if the store has told nothing.
    func control(isWoken: Bool) throws -> Bool? {
        guard pausedUntil <= world.host.clock.nanoseconds else { return false }
        if waitsForEvent, !stepped.takeEvent(), !isWoken { return false }
        waitsForEvent = false
        switch stepped.turn() {
        case .again:
            if users.isEmpty, stepped.isLive {
                for index in 0..<frontend.queueCount {
                    users.append(DiskUser(try frontend.takeQueue(index), world.book, world.host))
                }
            }
            return true
        case .after(let milliseconds): pausedUntil = world.host.clock.nanoseconds + UInt64(milliseconds) * 1_000_000
        case .event: waitsForEvent = true
        case .over: return nil
        }
        return false
    }
}
