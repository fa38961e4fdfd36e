// One pair of queues, as its next driver finds it: how far it has come, and each command that the controller may have.
//
// Stores are in program order, which a kill keeps: whoever reads has waited for the writer's end. In this order a
// command is noted, pushed, and the new tail noted before the doorbell is rung; and its slot is free again before the
// completion counts as taken. So a command that is noted and lies before the tail is the controller's, or its
// completion is still to be read; one behind the tail has never been seen by it.

import SharedMemory

/// A part of a controller's ledger.
struct QueueLedger: Sendable {
    /// Whether the controller knows the pair.
    enum State: UInt32 {
        case none = 0
        /// It does.
        case made = 1
        /// It may: it is being made, or ended.
        case changing = 2
    }

    private enum Layout {
        static let state = 0
        /// Counters of entries, which wrap as the queues' places do.
        static let tail = 4
        static let toldTail = 8
        static let head = 12
        static let toldHead = 16
        static let memory = 20
        static let blockShift = 24
        static let submissions = 28
        static let slots = 64
        static let slotSize = 80
        // Of a slot.
        static let isNoted = 0
        static let place = 4
        static let command = 16
    }
    /// For as many commands as a queue can have.
    static var byteCount: Int { SharedRegion.wholePages(Layout.slots + QueueRings.mostCommands * Layout.slotSize) }

    private let region: SharedRegion
    private let start: Int
    /// For tests: called after each store that a successor may find to be the last.
    private let observer: (@Sendable () -> Void)?

    init(_ region: SharedRegion, at start: Int, observer: (@Sendable () -> Void)?) {
        (self.region, self.start, self.observer) = (region, start, observer)
    }

    @inline(__always)
    private func store(_ value: UInt32, at offset: Int) {
        region.storeReleasing(value, at: start + offset)
        if let observer { observer() }
    }

    @inline(__always)
    private func load(_ offset: Int) -> UInt32 { region.loadRelaxed(start + offset) }

    var state: State {
        get { State(rawValue: load(Layout.state)) ?? .changing }
        nonmutating set { store(newValue.rawValue, at: Layout.state) }
    }
    /// Which memory its queues are in.
    var memory: UInt32 {
        get { load(Layout.memory) }
        nonmutating set { store(newValue, at: Layout.memory) }
    }
    /// Where the controller has that memory.
    var submissions: UInt64 {
        get { UInt64(load(Layout.submissions)) | UInt64(load(Layout.submissions + 4)) << 32 }
        nonmutating set {
            store(UInt32(truncatingIfNeeded: newValue), at: Layout.submissions)
            store(UInt32(truncatingIfNeeded: newValue >> 32), at: Layout.submissions + 4)
        }
    }
    /// Bytes of its namespace's blocks, as a power of two.
    var blockShift: UInt32 {
        get { load(Layout.blockShift) }
        nonmutating set { store(newValue, at: Layout.blockShift) }
    }

    /// Entries that the controller was told of, or was about to be; and that it was told of for sure.
    var tail: UInt32 { load(Layout.tail) }
    var toldTail: UInt32 { load(Layout.toldTail) }
    /// Completions that were taken, and of which the controller was told.
    var head: UInt32 { load(Layout.head) }
    var toldHead: UInt32 { load(Layout.toldHead) }

    /// Nothing has been asked of the pair.
    func clear() {
        for offset in [Layout.tail, Layout.toldTail, Layout.head, Layout.toldHead] { region.storeReleasing(0, at: start + offset) }
        for slot in 0..<QueueRings.mostCommands { region.storeReleasing(0, at: self.slot(slot)) }
    }

    /// The doorbell is about to be rung with this tail.
    @inline(__always)
    func willTell(tail: UInt32) { store(tail, at: Layout.tail) }

    /// It was rung.
    @inline(__always)
    func didTell(tail: UInt32) { store(tail, at: Layout.toldTail) }

    /// All completions before this one were taken and accounted.
    @inline(__always)
    func took(head: UInt32) { store(head, at: Layout.head) }

    /// The controller was told so.
    @inline(__always)
    func didTell(head: UInt32) { store(head, at: Layout.toldHead) }

    // MARK: Commands

    @inline(__always)
    private func slot(_ slot: Int) -> Int { start + Layout.slots + slot * Layout.slotSize }

    /// A command is about to be pushed as entry number `place`.
    @inline(__always)
    func note(_ command: NVMeCommand, slot index: Int, at place: UInt32) {
        let slot = slot(index)
        region.storeReleasing(0, at: slot + Layout.isNoted)
        region.copyOut(command, byteCount: 64, at: slot + Layout.command)
        region.storeRelaxed(place, at: slot + Layout.place)
        store(1, at: slot - start + Layout.isNoted)
    }

    /// The controller does not have it any more.
    @inline(__always)
    func forget(_ index: Int) { store(0, at: slot(index) - start + Layout.isNoted) }

    /// A command that the controller has, or has completed since it was looked at last; nil: it has none in this slot.
    func command(_ index: Int) -> NVMeCommand? {
        let slot = slot(index)
        guard region.loadRelaxed(slot + Layout.isNoted) != 0 else { return nil }
        // Behind the tail: it was never told of it.
        guard Int32(bitPattern: tail &- region.loadRelaxed(slot + Layout.place)) > 0 else { return nil }
        var command = NVMeCommand()
        region.copyIn(slot + Layout.command, into: &command, byteCount: 64)
        return command
    }
}
