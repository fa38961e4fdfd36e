// Which vifs of a backend hang on one cable: those that name the same peer, two at most.

import Glibc
import HostDevices
import LinuxSystem
import Synchronization
import XenBus

final class Cables: Sendable {
    private struct Entry {
        weak var cable: Cable?
        var holders: [DeviceID?] = [nil, nil]
        /// A device that is still in use keeps its end.
        var ends: [WeakEnd] = [WeakEnd(), WeakEnd()]
    }
    private struct WeakEnd { weak var end: CableEnd? }
    private let entries = Mutex<[String: Entry]>([:])

    /// An end of the cable called `name`: the one that `device` has, or a free one.
    func end(of name: String, for device: DeviceID) throws(Errno) -> CableEnd {
        let found = entries.withLock { entries -> Result<CableEnd, Errno> in
            do throws(Errno) {
                var entry = entries[name] ?? Entry()
                let cable: Cable
                if let there = entry.cable { cable = there } else {
                    cable = try Cable(name: name)
                    entry = Entry(cable: cable)
                }
                let own = entry.holders.firstIndex { $0 == device }
                guard let index = own ?? entry.ends.indices.first(where: { entry.ends[$0].end == nil }) else { return .failure(Errno(EBUSY)) }
                let end = cable.end(index)
                entry.holders[index] = device
                entry.ends[index] = WeakEnd(end: end)
                entries[name] = entry
                return .success(end)
            } catch { return .failure(error) }
        }
        return try found.get()
    }
}
