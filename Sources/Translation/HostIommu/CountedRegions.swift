// What is held of regions for a device, once for each however many of its queues have it, and given up after the last
// of them. Said once: what could not be had. Used under its owner's lock.

import SharedMemory

/// Regions, and what is held of each.
struct CountedRegions<Held> {
    private struct Entry {
        let region: SharedRegion
        let held: Held
        var count = 1
    }
    private var entries: [ObjectIdentifier: Entry] = [:]
    /// What has been told of, so that it is told once.
    private var lastComplaint = ""
    private let name: String
    private let log: @Sendable (String) -> Void

    /// - Parameters:
    ///   - name: the device, for the log.
    ///   - log: is told, once, what could not be had.
    init(name: String, log: @escaping @Sendable (String) -> Void) { (self.name, self.log) = (name, log) }

    /// Regions that are held.
    var count: Int { entries.count }

    /// What is held of a region, counted once more, or made: nil if it cannot be, which has been told of by then.
    mutating func take(
        _ region: SharedRegion, orSay what: String, _ make: () throws(DMABackEndError) -> Held
    ) -> Held? {
        let key = ObjectIdentifier(region)
        if let entry = entries[key] {
            entries[key]?.count += 1
            return entry.held
        }
        do throws(DMABackEndError) {
            let held = try make()
            entries[key] = Entry(region: region, held: held)
            return held
        } catch {
            complain("\(what): \(error.words)")
            return nil
        }
    }

    /// Counts a region down. What cannot be ended is held on, and told of.
    /// - Parameter end: ends what was held, after the last one.
    mutating func giveBack(_ region: SharedRegion, orSay what: String, _ end: (Held) throws(DMABackEndError) -> Void) {
        let key = ObjectIdentifier(region)
        guard let entry = entries[key] else { return }
        if entry.count > 1 {
            entries[key]?.count -= 1
            return
        }
        do throws(DMABackEndError) {
            try end(entry.held)
            entries[key] = nil
        } catch { complain("\(what): \(error)") }
    }

    private mutating func complain(_ what: String) {
        if what != lastComplaint { log("\(name): \(what)") }
        lastComplaint = what
    }
}

extension DMABackEndError {
    /// What went wrong, and what to do where the limit of locked memory is in the way.
    var words: String {
        switch self {
        case .lockedMemory: "\(self): raise it (ulimit -l, LimitMEMLOCK= of systemd)"
        case .kernel(_, .noMemory): "\(self): the limit of locked memory may be too low (ulimit -l, LimitMEMLOCK= of systemd)"
        default: "\(self)"
        }
    }
}
