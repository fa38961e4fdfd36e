// A vif's tap with what belongs to it: the record by which a successor knows it, and the script that puts it in its place and takes it out.

import DMA
import DriverSupport
import HostDevices
import LinuxSystem
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
    private let make: @Sendable () throws(DeviceOpenFailure) -> TapDevice
    private let undo: (@Sendable (TapDevice?) -> Void)
    /// Whether making or undoing it may take its time.
    private let isSlow: Bool
    private let phase = Mutex(Phase.making)

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
        self.make = make
        self.undo = undo
        if isSlow || lanes.isBusy(name) {
            lanes.run(name) { [self] in
                do throws(DeviceOpenFailure) { enter(.made(try make())) } catch { enter(.failed(error.description)) }
            }
        } else {
            enter(.made(try make()))
        }
    }

    private func enter(_ new: Phase) { phase.withLock { $0 = new } }

    private var tap: TapDevice? { phase.withLock { if case .made(let tap) = $0 { tap } else { nil } } }

    var readiness: DeviceReadiness {
        phase.withLock { phase in
            switch phase {
            case .making: .notYet
            case .made: .ready
            case .failed(let reason): .failed(reason)
            }
        }
    }

    var mtu: Int { tap?.mtu ?? 1500 }
    func setOffloads(_ offloads: OffloadSet) throws(Errno) { try ready().setOffloads(offloads) }
    func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue { try ready().openQueue(bus: bus) }
    func setCarrier(_ isUp: Bool) throws(Errno) { try ready().setCarrier(isUp) }

    private func ready() throws(Errno) -> TapDevice {
        guard let tap else { throw Errno(11) }
        return tap
    }

    func retire() {
        // The tap is asked for when its turn comes: it may be under way now.
        if isSlow || lanes.isBusy(name) { lanes.run(name) { [self] in undo(tap) } } else { undo(tap) }
    }
}
