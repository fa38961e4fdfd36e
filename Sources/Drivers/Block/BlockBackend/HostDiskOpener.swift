// What the backend drives, from what the toolstack wrote.

import BlockDevices
import DMA
import DriverRuntime
import Hypervisor
import LinuxSystem
import NVMe
import RBD
import SharedMemory
import Synchronization

/// Opens disks for a `BlockBackendService`, whose `openDisk` is this type's `open`: paths, NBD URIs, `null:SIZE`, NVMe
/// controllers and images of Ceph clusters.
public struct HostDiskOpener: Sendable {
    private let direct: Bool
    private let reconnectDelayMilliseconds: UInt64
    private let keeper: (any DescriptorKeeper)?
    private let hypervisor: (any Hypervisor)?
    private let lockRecord: RBDLockRecord?
    private let takeOver: TakeOver?
    private let time: any TimeSource
    private let log: @Sendable (String) -> Void

    /// - Parameters:
    ///   - direct: bypasses the page cache whatever a disk's configuration says.
    ///   - reconnectDelayMilliseconds: how long requests wait for an NBD server that went away, where a disk's
    ///     configuration does not say.
    ///   - keeper: by whom a successor of this process can go on with NVMe controllers; nil: they are reset then.
    ///   - hypervisor: who says machine frames, for controllers that go by them; nil: nobody.
    ///   - lockRecord: where the locks of images are noted, for a successor of this process; nil: nowhere.
    ///   - takesOver: whether an image is taken from whoever has its lock, wherever that is, when it is opened for the
    ///     first time.
    ///   - time: what waits and time limits go by.
    ///   - log: gets a line when an NBD server is lost and when it is back; from any thread.
    public init(
        direct: Bool = false, reconnectDelayMilliseconds: UInt64 = NBDReconnect().delayMilliseconds,
        keeper: (any DescriptorKeeper)? = nil, hypervisor: (any Hypervisor)? = nil, lockRecord: RBDLockRecord? = nil,
        takesOver: Bool = false, time: some TimeSource,
        log: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        self.direct = direct
        self.reconnectDelayMilliseconds = reconnectDelayMilliseconds
        self.keeper = keeper
        self.hypervisor = hypervisor
        self.lockRecord = lockRecord
        takeOver = takesOver ? TakeOver() : nil
        self.time = time
        self.log = log
    }

    /// Opens a disk. Blocks while a backend that was killed still lets go of it, for two seconds at most: its last
    /// requests end before its lock does.
    @Sendable public func open(_ settings: DiskSettings) throws(DeviceOpenFailure) -> any BlockDevice {
        if settings.target.isEmpty {
            throw DeviceOpenFailure(.noMedium, "no medium: the disk has no target")
        }
        var attempts = 100
        while true {
            attempts -= 1
            do throws(DeviceError) { return try device(settings, namesHolder: attempts == 0) } catch {
                guard Self.mayPass(error), attempts > 0 else {
                    var failure = DeviceOpenFailure(Self.number(of: error), "\(error)")
                    if case .away = error { failure.mayPass = true }
                    throw failure
                }
                time.sleep(milliseconds: 20)
            }
        }
    }

    private func device(_ settings: DiskSettings, namesHolder: Bool) throws(DeviceError) -> any BlockDevice {
        var options = BlockDeviceOptions(
            readOnly: !settings.isWritable || settings.isCDROM, direct: direct || settings.isDirectSafe ? .preferred : .never)
        if settings.isShared { options.sharing = .shared }
        // A guest waits for a disk that is taken over, and nobody else had it a moment ago.
        options.search = namesHolder ? .names : []
        if !settings.isTakenOver { options.search.insert(.writers) }
        options.reconnect.delayMilliseconds = settings.reconnectDelayMilliseconds ?? reconnectDelayMilliseconds
        let keeper = keeper
        options.openController = { target, options, time throws(DeviceError) in
            try NVMeControllers.openDisk(target, options, time, keeper: keeper)
        }
        let image = RBDOptions(record: lockRecord, takesOver: takeOver?.isDue(settings.target) ?? false)
        options.openImage = { target, options, _ throws(DeviceError) in try RBDImages.openDisk(target, options, image) }
        if let hypervisor, hypervisor.reachesDevices {
            options.machineMemory = { Self.memory(of: hypervisor, for: $0, $1) }
        }
        options.log = log
        let disk = try openBlockDevice(target: settings.target, options: options, time: time)
        takeOver?.isDone(settings.target)
        return disk
    }

    /// What is taken over is taken once: who loses it again later has lost it.
    private final class TakeOver: Sendable {
        private let done = Mutex<Set<String>>([])

        func isDue(_ target: String) -> Bool { done.withLock { !$0.contains(target) } }
        func isDone(_ target: String) { done.withLock { _ = $0.insert(target) } }
    }

    /// Memory by the machine frames that a hypervisor says.
    private static func memory(
        of hypervisor: any Hypervisor, for device: PCIAddress, _ log: @escaping @Sendable (String) -> Void
    ) -> any BusAddressSource {
        MachineFrameSource(
            name: "\(device)",
            make: { byteCount throws(Errno) in
                do throws(HypervisorError) {
                    let memory = try hypervisor.deviceMemory(byteCount / SharedRegion.pageSize, for: device)
                    return (memory.region, memory.frames)
                } catch {
                    log("\(device): \(error)")
                    throw .noMemory
                }
            }, log: log)
    }

    /// Whether it is a predecessor that still lets go.
    private static func mayPass(_ error: DeviceError) -> Bool {
        switch error {
        case .busy(_, let holder, _): holder.mayBeEnding
        case .controller(_, _, let number): number == .busy
        default: false
        }
    }

    private static func number(of error: DeviceError) -> Errno {
        switch error {
        case .system(_, _, let errno), .cluster(_, _, let errno), .controller(_, _, let errno): errno
        case .busy: .busy
        case .readOnly: .readOnlyFileSystem
        case .away: .noSuchAddressOrDevice
        default: .invalidArgument
        }
    }
}
