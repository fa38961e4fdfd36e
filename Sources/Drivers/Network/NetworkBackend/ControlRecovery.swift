// From a control journal and a ring's shared index to what the frontend had set.

import DriverRuntime
import NetworkProtocol
import SharedMemory
import SharedRing
import XenTypes

/// What a killed backend left of a control ring. Pure: it reads, and changes nothing.
struct ControlRecovery: Sendable {
    let settings: ControlSettings
    /// Responses that the frontend has seen. It may lack the last.
    let published: RingIndex
    let capacity: Int
    let sequence: UInt32
    let table: ControlTable

    /// Whether the last answer is to be pushed again.
    var lacksAnswer: Bool { settings.answered != published }

    /// Reads the journal of the ring whose shared rsp_prod is `responseProduced`.
    init(
        journal region: SharedRegion, of keys: ControlKeys, queues: Int, responseProduced: UInt32
    ) throws(RecoveryError) {
        typealias Layout = ControlJournal.Layout
        try ControlJournal.header(keys, queues: queues).expect(in: region, byteCount: Layout.tables)
        let capacity = Int(region.loadRelaxed(Layout.capacity))
        let records = [0, 1].compactMap { Self.record($0, in: region) }
        guard let newest = records.max(by: { Int32(bitPattern: $1.sequence &- $0.sequence) > 0 }) else {
            throw .damaged("the control ring's journal")
        }
        // Anything but these two is the frontend's doing, which can write there, or a record is lost. Its choice
        // between the two only cheats itself.
        published = RingIndex(responseProduced)
        guard newest.settings.answered - published <= 1 else {
            throw .indices("the control ring's rsp_prod is \(published), where \(newest.settings.answered) requests were answered")
        }
        guard Layout.byteCount(capacity: capacity) <= region.byteCount, newest.table.count <= capacity,
            let mappings = Self.mappings(newest.table, queues, capacity, in: region)
        else { throw .damaged("the control ring's journal: its table of mapped pages") }
        var settings = newest.settings
        settings.mappings = mappings
        (self.settings, self.capacity, sequence, table) = (settings, capacity, newest.sequence, newest.table)
    }

    private static func record(_ number: Int, in region: SharedRegion) -> ControlRecord? {
        let start = ControlJournal.Layout.records + number * ControlJournal.Layout.recordSize
        guard let words = ChecksummedWords(in: region, at: start).load(count: ControlRecord.wordCount),
            let record = ControlRecord(words), Int(record.sequence & 1) == number
        else { return nil }
        return record
    }

    private static func mappings(
        _ table: ControlTable, _ queues: Int, _ capacity: Int, in region: SharedRegion
    ) -> [[GrantMappingEntry]]? {
        typealias Layout = ControlJournal.Layout
        var (mappings, sum) = ([[GrantMappingEntry]](repeating: [], count: queues), Checksum())
        let start = Layout.tables + Int(table.number) * capacity * Layout.entrySize
        for index in 0..<Int(table.count) {
            let reference = region.loadRelaxed(start + index * Layout.entrySize)
            let word = region.loadRelaxed(start + index * Layout.entrySize + 4)
            sum.add(reference)
            sum.add(word)
            let queue = Int(word & ~Layout.readOnly)
            guard queue < queues else { return nil }
            mappings[queue].append(GrantMappingEntry(reference: GrantReference(reference), isReadOnly: word & Layout.readOnly != 0))
        }
        return sum.value == table.sum ? mappings : nil
    }
}
