// What a backend has taken from a ring and not answered, kept where it survives the process. A disk answers out of
// order, and a response overwrites the slot of an older request; so the ring alone does not tell a successor what is
// left to do. The ring and this journal together do, at whatever instruction the process was killed.
//
// The order of stores is the whole protocol. Each of the stores numbered below is one 32-bit word, so it has happened
// or has not: taking     the request into a free entry, then (1) entry = taken, then (2) consumed = its index + 1
// answering  the response's index into the entry, then (3) entry = answered; the response itself into the ring, before
// or after publishing (4) publishing = the new index, then the ring's own rsp_prod, then (5) published = the new index,
// then (6) entries = free RingRecovery.swift reads it the other way round. A kill needs no fences, only this order in
// the program; the power going takes the guest with it.

import BlockProtocol
import DriverRuntime
import SharedMemory
import SharedRing
import XenTypes

/// One ring's journal. Owned by the queue's thread.
struct RingJournal {
    /// Byte offsets in the file.
    enum Layout {
        static let magic = 0
        /// Behind the magic number: slots, layout, number of pages, port, and of each page the reference.
        static let references = 20
        static let consumed = 192
        static let published = 196
        static let publishing = 200
        static let entries = 256
        static let entrySize = 128
        /// In an entry.
        static let state = 0
        static let requestIndex = 4
        static let responseIndex = 8
        static let request = 16
        static let requestSize = 112
        /// `CWJ` and the layout's version.
        static let magicValue: UInt32 = 0x0243_5743
        static let mostRingPages = 32

        static func byteCount(slots: UInt32) -> Int {
            SharedRegion.wholePages(entries + Int(slots) * entrySize)
        }
    }

    /// An entry's state word.
    enum EntryState: UInt32 { case free = 0, taken = 1, answered = 2 }

    let region: SharedRegion
    /// Entries to be used next.
    private var free: [Int32]
    /// Entries whose responses are pushed and not shown.
    private var answered: [Int32] = []
    /// For tests: called after each ordered store.
    var observer: (() -> Void)?

    /// Begins the journal of a ring that nothing was taken from.
    static func begin(
        in region: SharedRegion, identity: RingIdentity, slots: UInt32, startingAt start: RingIndex = RingIndex(0)
    ) {
        identity.header(slots: slots).begin(in: region) {
            for place in [Layout.consumed, Layout.published, Layout.publishing] { region.storeRelaxed(start.rawValue, at: place) }
        }
    }

    /// The journal that was begun in `region`.
    init(_ region: SharedRegion, slots: UInt32) {
        precondition(
            MemoryLayout<BlockRequest>.size == Layout.requestSize, "a request's size is part of the journal's layout")
        self.region = region
        free = (0..<Int32(slots)).reversed()
        answered.reserveCapacity(Int(slots))
    }

    /// Goes on with what a predecessor left. Each store here leaves a journal that recovers to the same.
    init(_ region: SharedRegion, resuming recovery: RingRecovery) {
        self.region = region
        var free: [Int32] = []
        let live = Set(recovery.unanswered.map(\.entry))
        for entry in (0..<Int32(recovery.slots)).reversed() {
            let isLive = live.contains(entry)
            region.storeReleasing((isLive ? EntryState.taken : .free).rawValue, at: Self.offset(entry))
            if !isLive { free.append(entry) }
        }
        self.free = free
        region.storeReleasing(recovery.published.rawValue, at: Layout.publishing)
        region.storeReleasing(recovery.published.rawValue, at: Layout.published)
    }

    @inline(__always)
    static func offset(_ entry: Int32) -> Int { Layout.entries + Int(entry) * Layout.entrySize }

    @inline(__always)
    private func store(_ value: UInt32, at offset: Int) {
        region.storeReleasing(value, at: offset)
        if let observer { observer() }
    }

    /// Writes down a request that was taken at `index`; the entry's number. Nil cannot be while the ring keeps its
    /// promise that no more requests are unanswered than it has slots.
    @inline(__always)
    mutating func take(_ request: inout BlockRequest, at index: RingIndex) -> Int32? {
        guard let entry = free.popLast() else { return nil }
        let place = Self.offset(entry)
        region.storeRelaxed(index.rawValue, at: place + Layout.requestIndex)
        region.copyOut(from: &request, byteCount: Layout.requestSize, at: place + Layout.request)
        store(EntryState.taken.rawValue, at: place)
        store(index.advanced(by: 1).rawValue, at: Layout.consumed)
        return entry
    }

    /// The entry's response is about to be pushed at `index`.
    @inline(__always)
    mutating func answer(_ entry: Int32, at index: RingIndex) {
        let place = Self.offset(entry)
        region.storeRelaxed(index.rawValue, at: place + Layout.responseIndex)
        store(EntryState.answered.rawValue, at: place)
        answered.append(entry)
    }

    /// Responses up to `index` are about to be shown.
    @inline(__always)
    func willPublish(_ index: RingIndex) { store(index.rawValue, at: Layout.publishing) }

    /// They are shown.
    @inline(__always)
    mutating func didPublish(_ index: RingIndex) {
        store(index.rawValue, at: Layout.published)
        for entry in answered { store(EntryState.free.rawValue, at: Self.offset(entry)) }
        free.append(contentsOf: answered)
        answered.removeAll(keepingCapacity: true)
    }
}

/// Which ring a journal is of: a frontend that has made another ring since is not the one that the journal knows.
struct RingIdentity: Equatable {
    var abi: BlockABI
    var keys: RingKeys

    /// The ring's pages and port.
    struct RingKeys: Equatable {
        var references: [GrantReference]
        var port: EventPort
    }

    /// How the journal of this ring begins.
    func header(slots: UInt32) -> JournalHeader {
        let pages = keys.references.prefix(RingJournal.Layout.mostRingPages).map(\.rawValue)
        return JournalHeader(
            magic: RingJournal.Layout.magicValue,
            identity: [slots, abi == .x86_32 ? 32 : 64, UInt32(keys.references.count), keys.port.rawValue] + pages)
    }
}
