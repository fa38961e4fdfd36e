// What administrators do to taps that are in use: moved into another network namespace, a tap has to be found there by
// a successor of this process; resized beyond what has a way, it is set back; deleted, its frontend is told.

import LinuxSystem
import NetworkDevices
import Synchronization
import XenBus

/// The taps of one backend that are in use, and the thread that hears of their changes. It listens from the first tap
/// on, for as long as the process is there.
final class TapWatch: Sendable {
    private struct Entry {
        weak var tap: VifTap?
        /// Its number where it is.
        var index: UInt32
    }
    private struct State {
        var entries: [DeviceID: Entry] = [:]
        var watch: InterfaceWatch?
    }
    private let state = Mutex(State())
    /// Held while a tap is looked at.
    private let turn = Mutex(())
    private let changed: @Sendable (DeviceID, TapDevice) -> Void

    /// - Parameter changed: is told of each tap that something happened to, on the watch's thread.
    init(_ changed: @escaping @Sendable (DeviceID, TapDevice) -> Void) { self.changed = changed }

    deinit { state.withLock { $0.watch.take() }?.stop() }

    /// Follows a device's tap from now on, until it is let go.
    /// - Parameter index: its number; 0 if it is not known yet.
    func follow(_ device: DeviceID, _ tap: VifTap) throws(Errno) {
        let isFirst = state.withLock { state in
            state.entries = state.entries.filter { $0.value.tap != nil }
            state.entries[device] = Entry(tap: tap, index: 0)
            return state.watch == nil
        }
        guard isFirst else { return }
        let watch = try InterfaceWatch { [weak self] indices in self?.look(indices) }
        state.withLock { $0.watch = watch }
    }

    /// Follows it no more: afterwards nothing here keeps it.
    func forget(_ device: DeviceID, _ tap: TapDevice) {
        // Whoever looks at it has done so.
        turn.withLock { _ in
            state.withLock { state in
                if let followed = state.entries[device]?.tap, followed.tap !== tap { return }
                state.entries[device] = nil
            }
        }
    }

    /// Looks at those that may have changed.
    /// - Parameter indices: numbers of interfaces, of whatever namespaces; nil: any.
    private func look(_ indices: Set<UInt32>?) {
        for device in state.withLock({ Array($0.entries.keys) }) { turn.withLock { _ in look(device, indices) } }
    }

    private func look(_ device: DeviceID, _ indices: Set<UInt32>?) {
        guard let entry = state.withLock({ $0.entries[device] }), let tap = entry.tap?.tap else { return }
        if let indices, entry.index != 0, !indices.contains(entry.index) { return }
        // Where it is now is what the next word of it will be about.
        let index = tap.place?.index ?? 0
        state.withLock { $0.entries[device]?.index = index }
        changed(device, tap)
    }
}
