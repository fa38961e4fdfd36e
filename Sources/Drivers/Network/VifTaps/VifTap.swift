// A vif's tap with what belongs to it: the record by which a successor knows it, and the script that puts it in its
// place and takes it out.

import DMA
import DriverRuntime
import LinuxSystem
import NetworkDevices
import Packets
import Synchronization

/// A tap on its way, there, or gone.
final class VifTap: NetworkDevice {
    private enum Phase {
        case making
        case made(TapDevice)
        case failed(String)
    }
    let name: String
    private let lanes: TapLanes
    private let undo: (@Sendable (TapDevice?) -> Void)
    /// Whether making or undoing it may take its time.
    private let isSlow: Bool
    private let state = Mutex(State())

    private struct State {
        var phase = Phase.making
        /// Told when the tap is gone, once there is one.
        var watcher: (@Sendable () -> Void)?
    }

    /// - Parameters:
    ///   - isSlow: whether `make` and `undo` are to run on the name's lane.
    ///   - make: makes the tap and puts it in its place.
    ///   - undo: lets it go, once nobody is to use it any more; the tap is nil if there never was one.
    init(
        _ name: String, on lanes: TapLanes, isSlow: Bool, make: @escaping @Sendable () throws(DeviceOpenFailure) -> TapDevice,
        undo: @escaping @Sendable (TapDevice?) -> Void
    ) throws(DeviceOpenFailure) {
        self.name = name
        self.lanes = lanes
        self.isSlow = isSlow
        self.undo = undo
        if isSlow || lanes.isBusy(name) {
            lanes.run(name) { [self] in
                do throws(DeviceOpenFailure) { enter(.made(try make())) } catch { enter(.failed(error.description)) }
            }
        } else {
            enter(.made(try make()))
        }
    }

    private func enter(_ new: Phase) {
        let watcher = state.withLock { state in
            state.phase = new
            return state.watcher
        }
        if case .made(let tap) = new, let watcher { tap.watchCarrier(watcher) }
    }

    /// Nil while it is being made, or if that failed.
    var tap: TapDevice? { state.withLock { if case .made(let tap) = $0.phase { tap } else { nil } } }

    var readiness: DeviceReadiness {
        switch state.withLock({ $0.phase }) {
        case .making: .notYet
        case .made(let tap): tap.isGone ? .failed("tap \(name) is gone: somebody deleted it") : .ready
        case .failed(let reason): .failed(reason)
        }
    }

    var mtu: Int { tap?.mtu ?? 1500 }
    func setOffloads(_ offloads: OffloadSet) throws(Errno) { try ready().setOffloads(offloads) }
    func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue { try ready().openQueue(bus: bus) }
    func setCarrier(_ isUp: Bool) throws(Errno) { try ready().setCarrier(isUp) }
    func limitMTU(to most: Int) throws(Errno) -> MTUChange? { try ready().limitMTU(to: most) }
    var lifeline: [Descriptor] { tap?.lifeline ?? [] }
    func settle() { tap?.settle() }
    var mostQueues: Int { tap?.mostQueues ?? .max }
    var isGone: Bool { tap?.isGone ?? false }
    var carrier: Bool? { tap?.carrier }

    func watchCarrier(_ changed: @escaping @Sendable () -> Void) {
        let tap = state.withLock { state -> TapDevice? in
            state.watcher = changed
            if case .made(let tap) = state.phase { return tap }
            return nil
        }
        tap?.watchCarrier(changed)
    }

    private func ready() throws(Errno) -> TapDevice {
        guard let tap else { throw .wouldBlock }
        return tap
    }

    func retire() {
        // The tap is asked for when its turn comes: it may be under way now.
        if isSlow || lanes.isBusy(name) { lanes.run(name) { [self] in undo(tap) } } else { undo(tap) }
    }
}
