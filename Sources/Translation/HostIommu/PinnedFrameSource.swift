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
    private struct Entry {
        let region: SharedRegion
        let placement: BusPlacement
        let pin: any Sendable
        var count = 1
    }
    private struct State {
        var entries: [ObjectIdentifier: Entry] = [:]
        /// What has been told of, so that it is told once.
        var lastComplaint = ""
    }
    private let state = Mutex(State())
    private let name: String
    private let account: LockedMemoryAccount
    private let kernel: any PinningKernel
    private let log: @Sendable (String) -> Void

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
        self.log = log
    }

    /// See `BusAddressSource`: each page at its own frame. What can only be read here a device could write all the
    /// same; the bus does not give it such commands.
    public func place(_ region: SharedRegion, machine: () -> [UInt64]?) -> BusPlacement? {
        state.withLock { state in
            let key = ObjectIdentifier(region)
            if let entry = state.entries[key] {
                state.entries[key]?.count += 1
                return entry.placement
            }
            do throws(DMABackEndError) {
                let entry = try pin(region)
                state.entries[key] = entry
                return entry.placement
            } catch {
                let what = "memory cannot be pinned for it: \(RegionMappings.words(error))"
                if what != state.lastComplaint { log("\(name): \(what)") }
                state.lastComplaint = what
                return nil
            }
        }
    }

    private func pin(_ region: SharedRegion) throws(DMABackEndError) -> Entry {
        let byteCount = UInt64(region.byteCount)
        try account.charge(byteCount)
        do throws(DMABackEndError) {
            let pin: any Sendable
            do throws(Errno) { pin = try kernel.pin(region) } catch { throw .kernel("\(byteCount) bytes", error) }
            let frames: [UInt64]
            do throws(Errno) { frames = try kernel.frames(of: region) } catch { throw .kernel("/proc/self/pagemap", error) }
            guard frames.count == region.pageCount, let placement = BusPlacement(frames: frames) else { throw Self.untold(frames) }
            return Entry(region: region, placement: placement, pin: pin)
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
        state.withLock { state in
            let key = ObjectIdentifier(region)
            guard let entry = state.entries[key] else { return }
            if entry.count > 1 {
                state.entries[key]?.count -= 1
                return
            }
            state.entries[key] = nil
            account.release(UInt64(region.byteCount))
        }
    }

    /// Regions that it reaches.
    public var count: Int { state.withLock { $0.entries.count } }

    /// `0000:00:04.0: 3 regions pinned, 12288 of 8388608 bytes locked`.
    public var description: String { "\(name): \(count) regions pinned, \(account)" }
}
