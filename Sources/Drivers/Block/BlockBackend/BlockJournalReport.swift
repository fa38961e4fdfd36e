// A dead backend's journal of a disk's ring, as a person looks at it. It only reads, and believes nothing that it
// finds.

import BlockProtocol
import DeviceControl
import DriverRuntime
import LinuxSystem
import SharedMemory
import SharedRing

/// What the journal file of one queue says.
public enum BlockJournalReport {
    /// The ring that the file at `path` is of; none if it is no journal.
    public static func rings(_ path: String, queue: Int) -> [RingReport] {
        typealias Layout = RingJournal.Layout
        guard let region = JournalDirectory.look(at: path), region.byteCount >= Layout.entries,
            region.loadAcquiring(Layout.magic) == Layout.magicValue
        else { return [] }
        let slots = region.loadRelaxed(4)
        guard slots > 0, region.byteCount >= Layout.byteCount(slots: min(slots, 1 << 16)) else { return [] }
        let requests = unanswered(region, slots)
        return [
            RingReport(
                "queue \(queue)",
                fields: [
                    .init("slots", slots), .init("req_cons", region.loadRelaxed(Layout.consumed)),
                    .init("rsp_prod", region.loadRelaxed(Layout.published)), .init("in-work", requests.count),
                ],
                notes: ["its backend is dead: this is from its journal, and a successor does what is in work again"],
                requests: requests)
        ]
    }

    private static func unanswered(_ region: SharedRegion, _ slots: UInt32) -> [[RingReport.Field]] {
        typealias Layout = RingJournal.Layout
        let consumed = RingIndex(region.loadRelaxed(Layout.consumed))
        let published = RingIndex(region.loadRelaxed(Layout.publishing))
        var found: [(age: UInt32, fields: [RingReport.Field])] = []
        for entry in 0..<Int32(slots) {
            let place = RingJournal.offset(entry)
            let index = RingIndex(region.loadRelaxed(place + Layout.requestIndex))
            // As a successor decides it, but for the ring's own rsp_prod, which nobody but the frontend has mapped now.
            let isOurs =
                switch RingJournal.EntryState(rawValue: region.loadRelaxed(place)) {
                case .taken: index != consumed
                case .answered: RingIndex(region.loadRelaxed(place + Layout.responseIndex)) - published < slots
                case .free, nil: false
                }
            guard isOurs else { continue }
            var request = BlockRequest()
            region.copyIn(place + Layout.request, into: &request, byteCount: Layout.requestSize)
            found.append((consumed - index, fields(request)))
        }
        return found.sorted { $0.age > $1.age }.map(\.fields)
    }

    private static func fields(_ request: BlockRequest) -> [RingReport.Field] {
        [
            .init("id", request.id), .init("operation", "\(request.responseOperation)"),
            .init("sector", request.sector), .init("segments", request.segmentCount),
        ]
    }
}
