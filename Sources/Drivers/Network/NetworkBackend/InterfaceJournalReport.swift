// A dead backend's journal of an interface's rings, as a person looks at it.

import DeviceControl
import DriverRuntime
import SharedMemory

/// What the journal file of one queue says.
public enum InterfaceJournalReport {
    /// The rings that the file at `path` is of; none if it is no journal.
    public static func rings(_ path: String, queue: Int) -> [RingReport] {
        typealias Layout = InterfaceJournal.Layout
        guard let region = JournalDirectory.look(at: path), region.byteCount >= Layout.byteCount,
            region.loadAcquiring(0) == Layout.magicValue
        else { return [] }
        let note = "its backend is dead: this is from its journal; a frame that was under way counts as lost"
        return [("receive", Layout.receiveConsumed), ("transmit", Layout.transmitConsumed)].map { name, place in
            RingReport(
                "queue \(queue) \(name)",
                fields: [.init("slots", Layout.slots), .init("req_cons", region.loadRelaxed(place))], notes: [note])
        }
    }
}
