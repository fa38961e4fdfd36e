// Real frames as a hypervisor says them: a peer's pages where it has pinned them for a device, and memory that it has
// made for one. No frame is ever read from a table that somebody else may write.

import LinuxSystem
import SharedMemory
import Synchronization

/// Regions at machine frames, for one device of a paravirtualized domain.
public final class MachineFrameSource: BusAddressSource, CustomStringConvertible {
    /// Memory of this domain's own, and each page's machine frame.
    public typealias Made = (region: SharedRegion, frames: [UInt64])

    private struct Entry {
        let region: SharedRegion
        let placement: BusPlacement
        var count = 1
    }
    private struct Own {
        weak var region: SharedRegion?
        let frames: [UInt64]
    }
    private struct State {
        var entries: [ObjectIdentifier: Entry] = [:]
        /// What was made here, by region; those that are gone are swept when the next is made.
        var own: [ObjectIdentifier: Own] = [:]
        /// What has been told of, so that it is told once.
        var lastComplaint = ""
    }
    private let state = Mutex(State())
    private let name: String
    private let make: @Sendable (_ byteCount: Int) throws(Errno) -> Made
    private let log: @Sendable (String) -> Void

    /// - Parameters:
    ///   - name: the device, for the log.
    ///   - make: makes memory that the device reaches until nobody has a reference to its region.
    ///   - log: is told, once, what has no place.
    public init(
        name: String, make: @escaping @Sendable (_ byteCount: Int) throws(Errno) -> Made, log: @escaping @Sendable (String) -> Void
    ) {
        self.name = name
        self.make = make
        self.log = log
    }

    /// See `BusAddressSource`.
    public var takesMachineFrames: Bool { true }

    /// See `BusAddressSource`.
    public func makeMemory(_ byteCount: Int) throws(Errno) -> SharedRegion {
        let (region, frames) = try make(SharedRegion.wholePages(byteCount))
        state.withLock { state in
            state.own = state.own.filter { $0.value.region != nil }
            state.own[ObjectIdentifier(region)] = Own(region: region, frames: frames)
        }
        return region
    }

    /// See `BusAddressSource`. What was neither made here nor mapped for a device has no place: its frames are not
    /// known, or may change.
    public func place(_ region: SharedRegion, machine: () -> [UInt64]?) -> BusPlacement? {
        let key = ObjectIdentifier(region)
        let (known, own) = state.withLock { state -> (BusPlacement?, [UInt64]?) in
            if state.entries[key] != nil {
                state.entries[key]?.count += 1
                return (state.entries[key]?.placement, nil)
            }
            return (nil, state.own[key].flatMap { $0.region === region ? $0.frames : nil })
        }
        if let known { return known }
        guard let frames = own ?? machine(), frames.count == region.pageCount, let placement = BusPlacement(frames: frames) else {
            complain("a region of \(region.pageCount) pages has no machine frames: it was not mapped for a device")
            return nil
        }
        state.withLock { state in
            // Another of the device's queues may have been faster.
            if state.entries[key] != nil {
                state.entries[key]?.count += 1
            } else {
                state.entries[key] = Entry(region: region, placement: placement)
            }
        }
        return placement
    }

    /// See `BusAddressSource`. Whoever made or mapped the region ends the device's reach of it.
    public func remove(_ region: SharedRegion) {
        // Released outside the lock: what ends with it may take long.
        let gone = state.withLock { state -> SharedRegion? in
            let key = ObjectIdentifier(region)
            guard let entry = state.entries[key] else { return nil }
            if entry.count > 1 {
                state.entries[key]?.count -= 1
                return nil
            }
            state.entries[key] = nil
            return entry.region
        }
        withExtendedLifetime(gone) {}
    }

    /// Regions that the device reaches.
    public var count: Int { state.withLock { $0.entries.count } }

    private func complain(_ what: String) {
        let isNew = state.withLock { state in
            defer { state.lastComplaint = what }
            return what != state.lastComplaint
        }
        if isNew { log("\(name): \(what)") }
    }

    /// `0000:00:05.0: 3 regions by machine frames`.
    public var description: String { "\(name): \(count) regions by machine frames" }
}
