// Pages that a device reaches by their machine frames (`GNTMAP_device_map`): given by Xen, noted where they outlive
// this process, and taken back once the device is done with them.

import CXen
import Glibc
import Hypervisor
import LinuxSystem
import SharedMemory
import Synchronization
import XenTypes

/// A page that a device reaches.
struct DevicePlace: Hashable, Sendable {
    /// In the journal.
    let slot: Int
    /// Which use of the slot: an old place of one that another page has now is nothing.
    let serial: UInt32
}

/// What a predecessor left: pages that a device may still reach.
public struct LeftDeviceGrants: Hashable, Sendable {
    /// Pages.
    public let count: Int
    /// Whoever drove them was driving these.
    public let controllers: [PCIAddress]
}

/// This domain's pages and its peers', as far as devices reach them. Any thread.
final class DeviceGrants: Sendable {
    /// The bit that tells a grant's number of here from those that gntdev's have.
    static let mark: UInt32 = 1 << 31
    /// How often what Xen has paged out is asked for, and how long after.
    private static let rounds = 4
    private static let pauseMilliseconds: Int64 = 10

    private struct State {
        var isUsed = [Bool](repeating: false, count: DeviceJournal.slotCount)
        var serials = [UInt32](repeating: 0, count: DeviceJournal.slotCount)
        /// Where the next free slots are looked for.
        var next = 0
        var count = 0
    }
    private let journal: DeviceJournal
    private let calls: any DeviceGrantCalls
    private let time: any TimeSource
    private let state = Mutex(State())
    /// The operations that unmap have one place.
    private let unmapping = Mutex(())
    /// What a predecessor left; empty once it has been ended.
    private let leftSlots: Mutex<[Int]>

    /// - Parameter journal: what a predecessor left in it is left until `endLeft`.
    init(_ journal: DeviceJournal, _ calls: any DeviceGrantCalls, _ time: any TimeSource) {
        self.journal = journal
        self.calls = calls
        self.time = time
        var left: [Int] = []
        for slot in 0..<DeviceJournal.slotCount where journal.operation(slot).flags != 0 {
            // What Xen refused or was never asked is nobody's page.
            if journal.entry(slot) != nil { left.append(slot) } else { journal.clear(slot) }
        }
        state.withLock { [left] state in
            // Not to be overwritten.
            for slot in left { state.isUsed[slot] = true }
            state.count = left.count
        }
        leftSlots = Mutex(left)
    }

    /// Pages that a device reaches now.
    var count: Int { state.withLock { $0.count } }

    /// The place of a grant that was given the number `handle`, as it is now; nil: no device reaches it.
    static func place(of handle: UInt32) -> Int? { handle & mark == 0 ? nil : Int(handle & ~mark) }

    // MARK: What a predecessor left

    /// What is noted of before this process began; nil: nothing.
    var left: LeftDeviceGrants? {
        let count = leftSlots.withLock(\.count)
        return count == 0 ? nil : LeftDeviceGrants(count: count, controllers: journal.controllers)
    }

    /// Ends all of that; how many Xen did not know any more. The controllers do nothing any more, as the caller has
    /// seen to.
    func endLeft() -> Int {
        let slots = leftSlots.withLock { left in
            defer { left = [] }
            return left
        }
        let failed = unmap(slots)
        journal.forgetControllers()
        return failed
    }

    /// Notes who is to reach pages from now on. Refused while a predecessor's pages are not ended: its controllers may
    /// be these.
    func note(_ controller: PCIAddress) throws(HypervisorError) {
        if let left {
            throw .system(
                "\(left.count) pages of a backend that was killed may still be reached by \(left.controllers.map(\.description).joined(separator: ", "))",
                doing: "giving \(controller) pages")
        }
        guard journal.note(controller) else {
            throw .exhausted(
                "\(DeviceJournal.mostControllers) controllers are noted in the device journal, and that is all it holds")
        }
    }

    // MARK: Mapping

    /// Has Xen give a device these pages, all or none, in as few hypercalls as there are runs of free slots; for each
    /// its place and its machine frame.
    func map(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> [(place: DevicePlace, frame: UInt64)] {
        let slots = try take(references.count)
        for (slot, reference) in zip(slots, references) { journal.ask(slot, reference, of: granter, access) }
        var refusal: HypervisorError?
        do throws(HypervisorError) {
            try call(slots)
            try callAgain(slots)
        } catch { refusal = error }
        var mapped: [(DevicePlace, UInt64)] = []
        mapped.reserveCapacity(slots.count)
        let serials = state.withLock { state in slots.map { state.serials[$0] } }
        for (index, slot) in slots.enumerated() {
            let operation = journal.operation(slot)
            if operation.status == 0 {
                mapped.append((DevicePlace(slot: slot, serial: serials[index]), operation.dev_bus_addr >> 12))
                continue
            }
            refusal =
                refusal
                ?? .grantRefused(references[index], of: granter, GrantStatus(rawValue: operation.status) ?? .generalError)
        }
        guard let refusal else { return mapped }
        // Those that Xen refused, or was not asked, have nothing to be ended.
        let mappedSlots = Set(mapped.map(\.0.slot))
        free(slots.filter { !mappedSlots.contains($0) })
        unmap(mapped.map(\.0.slot))
        throw refusal
    }

    /// One hypercall for each run of slots.
    private func call(_ slots: [Int]) throws(HypervisorError) {
        var start = 0
        while start < slots.count {
            var end = start + 1
            while end < slots.count, slots[end] == slots[end - 1] + 1 { end += 1 }
            try calls.map(journal.region, at: DeviceJournal.offset(slots[start]), count: end - start)
            start = end
        }
    }

    /// Asks again for what Xen has paged out.
    private func callAgain(_ slots: [Int]) throws(HypervisorError) {
        for _ in 1..<Self.rounds {
            let out = slots.filter { journal.operation($0).status == GrantStatus.tryAgain.rawValue }
            if out.isEmpty { return }
            time.sleep(milliseconds: Self.pauseMilliseconds)
            try call(out)
        }
    }

    /// Free slots, now the caller's: neighbours, as far as there are.
    private func take(_ count: Int) throws(HypervisorError) -> [Int] {
        let slots = state.withLock { state -> [Int]? in
            guard count <= DeviceJournal.slotCount - state.count else { return nil }
            var slots: [Int] = []
            slots.reserveCapacity(count)
            var slot = state.next
            while slots.count < count {
                if !state.isUsed[slot] {
                    slots.append(slot)
                    state.isUsed[slot] = true
                }
                slot = (slot + 1) % DeviceJournal.slotCount
            }
            state.next = slot
            state.count += count
            return slots
        }
        guard let slots else {
            throw .exhausted(
                "\(count) more grants cannot be given to a device: \(self.count) of \(DeviceJournal.slotCount) are in use")
        }
        return slots
    }

    private func free(_ slots: [Int]) {
        if slots.isEmpty { return }
        for slot in slots { journal.clear(slot) }
        state.withLock { state in
            for slot in slots {
                state.isUsed[slot] = false
                state.serials[slot] &+= 1
            }
            state.count -= slots.count
        }
    }

    // MARK: Unmapping

    /// Takes a page from the device, unless that has been done.
    func unmap(_ place: DevicePlace) {
        let isHere = state.withLock { $0.isUsed[place.slot] && $0.serials[place.slot] == place.serial }
        if isHere { unmap([place.slot]) }
    }

    /// Takes pages from the device, which is done with them: their slots are free again. How many Xen did not know.
    @discardableResult func unmap(_ slots: [Int]) -> Int {
        var failed = 0
        var rest = slots[...]
        while !rest.isEmpty {
            let batch = rest.prefix(DeviceJournal.mostUnmaps)
            rest = rest.dropFirst(batch.count)
            let entries = batch.compactMap { journal.entry($0) }
            let statuses = unmapping.withLock { _ in
                for (index, entry) in entries.enumerated() { journal.askUnmap(index, entry) }
                // Where the call itself fails, the operations say how far it came.
                try? calls.unmap(journal.region, at: DeviceJournal.unmapOffset, count: entries.count)
                return entries.indices.map { journal.unmapStatus($0) }
            }
            failed += batch.count - statuses.count { $0 == 0 }
            // Noted until here: who dies before has a successor that asks once more, and is told that there is no such
            // handle. What Xen was not asked stays noted.
            let unasked = Set(zip(entries, statuses).filter { $1 == DeviceJournal.unasked }.map(\.0.slot))
            free(batch.filter { !unasked.contains($0) })
        }
        return failed
    }
}

/// Ends a device's reach of a page with the page's region. Made before Xen is asked.
final class DeviceHold: Sendable {
    private let state = Mutex<(grants: DeviceGrants, place: DevicePlace)?>(nil)

    func hold(_ grants: DeviceGrants, _ place: DevicePlace) { state.withLock { $0 = (grants, place) } }

    func end() {
        guard let held = state.withLock({ $0.take() }) else { return }
        held.grants.unmap(held.place)
    }
}

extension DeviceGrants {
    /// Opened at first use, once: most processes give no device anything.
    final class Lazy: Sendable {
        private let path: String?
        private let time: any TimeSource
        private let state = Mutex<(grants: DeviceGrants, claim: FileClaim)?>(nil)

        init(_ path: String?, _ time: any TimeSource) {
            self.path = path
            self.time = time
        }

        /// Nil: not opened yet.
        var opened: DeviceGrants? { state.withLock { $0?.grants } }
        /// Whether pages can be given to devices from here.
        var isPossible: Bool { path != nil }
        /// Whether a predecessor has left a journal.
        var hasJournal: Bool { path.map { FileSystem.exists($0) } ?? false }

        func get() throws(HypervisorError) -> DeviceGrants {
            if let opened { return opened }
            guard let path else { throw .system("this process was given no journal for it", doing: "giving a device pages") }
            let claim = try time.claim(path)
            let journal: DeviceJournal
            do throws(Errno) { journal = try DeviceJournal.open(path).journal } catch {
                throw .system(
                    error.rawValue == EPROTO
                        ? "it is another version's, and says which pages a device may still reach: start that version once, or restart the machine"
                        : "\(error)", doing: "opening the journal \(path)")
            }
            let made = DeviceGrants(journal, try HypercallDevice(), time)
            return state.withLock { state in
                if let state { return state.grants }
                state = (made, claim)
                return made
            }
        }
    }
}

extension TimeSource {
    /// Who has a journal has it alone; a predecessor may be on its last steps.
    fileprivate func claim(_ path: String) throws(HypervisorError) -> FileClaim {
        do throws(ClaimError) { return try FileClaim("\(path).lock", patience: 5000, time: self) } catch {
            throw .system("\(error)", doing: "claiming \(path)")
        }
    }
}
