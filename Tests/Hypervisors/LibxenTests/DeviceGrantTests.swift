// Pages for devices: what is noted where, and that a successor ends what its predecessor could not.

import Hypervisor
@testable import Libxen
import LinuxSystem
import SharedMemory
import Testing
import TestSupport
import XenTypes

@Suite("Pages for devices") struct DeviceGrantTests {
    private let directory: TemporaryDirectory
    private let xen = PinningXen()
    private var path: String { "\(directory.path)/device-grants" }

    init() throws { directory = try TemporaryDirectory() }

    /// A process that has the journal now.
    private func process() throws -> DeviceGrants {
        DeviceGrants(try DeviceJournal.open(path).journal, xen, SystemTime())
    }

    private func references(_ range: Range<UInt32>) -> [GrantReference] { range.map { GrantReference($0) } }

    @Test func theFramesAreXens_inOneHypercallEachWay() throws {
        let grants = try process()
        let mapped = try grants.map(references(8..<40), of: DomainID(3), access: .readWrite)
        #expect(mapped.map(\.frame) == (8..<40).map { xen.frame($0) })
        #expect(xen.state.withLock { $0.mapCalls } == [32])
        #expect(xen.pins.allSatisfy { $0.domain == 3 && !$0.isReadOnly })
        #expect(grants.unmap(mapped.map(\.place.slot)) == 0)
        #expect(xen.state.withLock { $0.unmapCalls } == [32] && xen.pins.isEmpty && grants.count == 0)
        _ = try grants.map(references(1..<2), of: DomainID(3), access: .readOnly)
        #expect(xen.pins.map(\.isReadOnly) == [true])
    }

    @Test func oneThatIsRefusedTakesTheOthersWithIt() throws {
        let grants = try process()
        xen.state.withLock { $0.refused[12] = -3 }
        #expect(throws: HypervisorError.grantRefused(GrantReference(12), of: DomainID(3), .badGrantReference)) {
            _ = try grants.map(references(8..<16), of: DomainID(3), access: .readWrite)
        }
        #expect(xen.pins.isEmpty && grants.count == 0)
        #expect(try process().left == nil)
    }

    @Test func whatIsPagedOutIsAskedForAgainAlone_andNotForEver() throws {
        let grants = try process()
        xen.state.withLock { $0.pagedOut = [9: 2] }
        #expect(try grants.map(references(8..<12), of: DomainID(3), access: .readWrite).count == 4)
        #expect(xen.state.withLock { $0.mapCalls } == [4, 1, 1])
        xen.state.withLock { $0.pagedOut = [30: .max] }
        #expect(throws: HypervisorError.self) { _ = try grants.map(references(29..<31), of: DomainID(3), access: .readWrite) }
        #expect(xen.pins.count == 4 && grants.count == 4)
    }

    /// Killed in the midst of a hypercall that maps, after each number of its operations.
    @Test func aSuccessorEndsWhatWasMappedWheneverItsPredecessorDied() throws {
        for life in 0...6 {
            let victim = try process()
            _ = try victim.map(references(100..<103), of: DomainID(3), access: .readWrite)
            try victim.note(try #require(PCIAddress("0000:00:05.0")))
            // The hypercall ends with the process: what it would have done next is not done.
            xen.state.withLock { $0.life = life }
            try? xen.map(asked(victim, 200..<206), at: DeviceJournal.offset(3), count: 6)
            xen.state.withLock { $0.life = .max }
            #expect(xen.pins.count == 3 + life)
            let successor = try process()
            let left = try #require(successor.left)
            #expect(left.count == 3 + life && left.controllers.map(\.description) == ["0000:00:05.0"])
            #expect(throws: HypervisorError.self) { try successor.note(try #require(PCIAddress("0000:00:06.0"))) }
            #expect(successor.endLeft() == 0)
            #expect(xen.pins.isEmpty && successor.count == 0 && successor.left == nil)
            try successor.note(try #require(PCIAddress("0000:00:06.0")))
            // A second successor finds nothing to end.
            #expect(try process().left == nil)
            FileSystem.remove(path)
        }
    }

    /// What a process has written when it makes the hypercall: free slots from 3 on, asked for and not answered.
    private func asked(_ grants: DeviceGrants, _ range: Range<UInt32>) throws -> SharedRegion {
        let journal = try DeviceJournal.open(path).journal
        for (index, reference) in references(range).enumerated() { journal.ask(3 + index, reference, of: DomainID(3), .readWrite) }
        return journal.region
    }

    /// Killed after Xen has unmapped and before that is noted: the handle may be another mapping's by then.
    @Test func whatWasEndedAlreadyIsNotEndedForSomebodyElse() throws {
        let victim = try process()
        let mapped = try victim.map(references(8..<10), of: DomainID(3), access: .readWrite)
        let entry = try #require(try DeviceJournal.open(path).journal.entry(mapped[0].place.slot))
        xen.state.withLock { state in
            state.pins[entry.handle] = .init(domain: 4, reference: 1, frame: 0x77, isReadOnly: false)
        }
        #expect(try process().endLeft() == 1)
        #expect(xen.pins == [.init(domain: 4, reference: 1, frame: 0x77, isReadOnly: false)])
    }

    @Test func whatXenWasNotAskedStaysNoted() throws {
        let grants = try process()
        let mapped = try grants.map(references(8..<12), of: DomainID(3), access: .readWrite)
        xen.state.withLock { $0.life = 1 }
        #expect(grants.unmap(mapped.map(\.place.slot)) == 3)
        xen.state.withLock { $0.life = .max }
        #expect(grants.count == 3 && xen.pins.count == 3)
        #expect(try process().left?.count == 3)
        #expect(try process().endLeft() == 0)
        #expect(xen.pins.isEmpty)
    }

    @Test func anOldPlaceEndsNobodyElsesPage() throws {
        let grants = try process()
        let hold = DeviceHold()
        let first = try grants.map(references(8..<9), of: DomainID(3), access: .readWrite)[0].place
        hold.hold(grants, first)
        grants.unmap([first.slot])
        // All the way round, until another page has the slot.
        var second: DevicePlace?
        while second?.slot != first.slot {
            if let second { grants.unmap([second.slot]) }
            second = try grants.map(references(9..<10), of: DomainID(3), access: .readWrite)[0].place
        }
        hold.end()
        #expect(xen.pins.map(\.reference) == [9])
        hold.end()
        if let second { grants.unmap(second) }
        #expect(xen.pins.isEmpty && grants.count == 0)
    }

    @Test func slotsThatAreNoNeighboursAreAskedForInRuns() throws {
        let grants = try process()
        let all = try grants.map(references(0..<UInt32(DeviceJournal.slotCount)), of: DomainID(3), access: .readWrite)
        #expect(throws: HypervisorError.self) { _ = try grants.map(references(1..<2), of: DomainID(3), access: .readWrite) }
        // Every other slot.
        grants.unmap(all.enumerated().filter { $0.offset % 2 == 0 && $0.offset < 20 }.map(\.element.place.slot))
        xen.state.withLock { $0.mapCalls = [] }
        #expect(throws: HypervisorError.self) { _ = try grants.map(references(1..<12), of: DomainID(3), access: .readWrite) }
        #expect(xen.state.withLock { $0.mapCalls }.isEmpty)
        _ = try grants.map(references(1..<11), of: DomainID(3), access: .readWrite)
        #expect(xen.state.withLock { $0.mapCalls } == [Int](repeating: 1, count: 10))
        #expect(grants.count == DeviceJournal.slotCount && xen.pins.count == DeviceJournal.slotCount)
    }

    @Test func aFileThatIsNoJournalIsLeftAlone() throws {
        for bytes in [[UInt8](repeating: 1, count: 40), [UInt8](repeating: 1, count: DeviceJournal.byteCount)] {
            try FileSystem.replace(path, with: bytes)
            #expect(throws: Errno.self) { _ = try DeviceJournal.open(path) }
            #expect(try #require(FileSystem.text(of: path)).utf8.first == 1)
            FileSystem.remove(path)
        }
    }
}
