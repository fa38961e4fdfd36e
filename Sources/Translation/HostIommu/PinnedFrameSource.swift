// Where a device without an IOMMU finds memory of this process: in the frames that it has, once it stays in them. Each
// region is pinned once, however many of the device's queues have it.
//
// A hypervisor of this process's own makes the machine frames up that it says: they are not asked for.

import DMA
import FrameMaps
import LinuxSystem
import SharedMemory
import Synchronization

/// What pins memory and says where it is; a test puts a kernel of its own there.
public protocol PinningKernel: Sendable {
    /// The region's pages stay where they are as long as what is returned is kept.
    func pin(_ region: SharedRegion) throws(Errno) -> any Sendable
    /// The frame of each page; asked behind the pin.
    func frames(of region: SharedRegion) throws(Errno) -> [UInt64]
}

/// The kernel that this runs on.
public struct RunningPins: PinningKernel {
    /// There is one.
    public init() {}
    /// See `PinnedPages`.
    public func pin(_ region: SharedRegion) throws(Errno) -> any Sendable { try PinnedPages(region) }
    /// See `SharedRegion.frames`.
    public func frames(of region: SharedRegion) throws(Errno) -> [UInt64] { try region.frames() }
}

/// Pinned memory and its frames, for one device; any thread.
public final class PinnedFrameSource: BusAddressSource, CustomStringConvertible {
    private struct Pinned {
        let placement: BusPlacement
        let pin: any Sendable
    }
    private let regions: Mutex<CountedRegions<Pinned>>
    private let name: String
    private let account: LockedMemoryAccount
    private let kernel: any PinningKernel

    /// - Parameters:
    ///   - name: the device, for the log.
    ///   - account: what may be locked in memory.
    ///   - kernel: whom to ask.
    ///   - log: is told, once, what could not be pinned or found.
    public init(
        name: String, account: LockedMemoryAccount = .ofThisProcess, kernel: any PinningKernel = RunningPins(),
        log: @escaping @Sendable (String) -> Void
    ) {
        self.name = name
        self.account = account
        self.kernel = kernel
        regions = Mutex(CountedRegions(name: name, log: log))
    }

    /// See `BusAddressSource`: each page at its own frame. What can only be read here a device could write all the
    /// same; the bus does not give it such commands.
    public func place(_ region: SharedRegion, machine: () -> [UInt64]?) -> BusPlacement? {
        regions.withLock { regions in
            regions.take(region, orSay: "memory cannot be pinned for it") { () throws(DMABackEndError) in try pin(region) }?
                .placement
        }
    }

    private func pin(_ region: SharedRegion) throws(DMABackEndError) -> Pinned {
        let byteCount = UInt64(region.byteCount)
        try account.charge(byteCount)
        do throws(DMABackEndError) {
            let pin: any Sendable
            do throws(Errno) { pin = try kernel.pin(region) } catch { throw .kernel("\(byteCount) bytes", error) }
            let frames: [UInt64]
            do throws(Errno) { frames = try kernel.frames(of: region) } catch { throw .kernel("/proc/self/pagemap", error) }
            guard frames.count == region.pageCount, let placement = BusPlacement(frames: frames) else { throw Self.untold(frames) }
            return Pinned(placement: placement, pin: pin)
        } catch {
            account.release(byteCount)
            throw error
        }
    }

    /// Why there are no frames.
    private static func untold(_ frames: [UInt64]) -> DMABackEndError {
        if frames.allSatisfy({ $0 == 0 }) {
            return .unavailable(
                name: "/proc/self/pagemap", what: "every page is in frame 0",
                why: "the kernel tells nobody where memory is but root (CAP_SYS_ADMIN)")
        }
        let index = frames.firstIndex { DeviceAddress(frame: $0) == nil } ?? 0
        let frame = frames.indices.contains(index) ? "0x\(String(frames[index], radix: 16))" : "none"
        return .unavailable(
            name: "/proc/self/pagemap", what: "page \(index) of \(frames.count) is in frame \(frame)",
            why: "that is no frame of this machine's memory (under Xen, one of another domain's)")
    }

    /// See `BusAddressSource`.
    public func remove(_ region: SharedRegion) {
        regions.withLock { regions in
            regions.giveBack(region, orSay: "memory cannot be let go of") { _ in account.release(UInt64(region.byteCount)) }
        }
    }

    /// Regions that it reaches.
    public var count: Int { regions.withLock { $0.count } }

    /// `0000:00:04.0: 3 regions pinned, 12288 of 8388608 bytes locked`.
    public var description: String { "\(name): \(count) regions pinned, \(account)" }
}
