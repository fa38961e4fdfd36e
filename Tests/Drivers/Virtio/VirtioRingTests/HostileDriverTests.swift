// Drivers that break the rules: each refusal with what it says, the queue stopped for good, nothing trapped, and what
// was taken before still answered.

import SharedMemory
import Testing
import TestSupport
@testable import VirtioRing
import VirtioWire

/// A split ring whose driver writes what it likes.
private final class Split {
    let rig: Rig
    var ring: SplitDeviceRing<NoLedger>
    var chain = DescriptorChain()
    var shown: UInt16 = 0

    init(size: Int = 8, tables: Bool = true) throws {
        rig = try Rig(Shape(size: size, tables: tables, events: true))
        ring = try SplitDeviceRing(attaching: rig.areas, features: rig.shape.features)
    }

    func describe(_ index: Int, _ address: UInt64, _ count: UInt32, _ flags: DescriptorFlags = [], next: UInt16 = 0) {
        SplitDescriptor(address: address, byteCount: count, flags: flags, next: next).store(
            rig.areas.descriptors.region, at: rig.areas.descriptors.offset + 16 * index)
    }

    func show(_ heads: UInt16...) {
        for head in heads {
            rig.areas.driver.region.storeRelaxed16(
                head, at: rig.areas.driver.offset + 4 + 2 * Int(shown % UInt16(rig.shape.size)))
            shown &+= 1
        }
        rig.areas.driver.region.storeReleasing16(shown, at: rig.areas.driver.offset + 2)
    }

    func expect(_ taken: Taken, at place: SourceLocation = #_sourceLocation) throws {
        let found = try ring.take(into: &chain, from: rig.map)
        #expect(found == taken, sourceLocation: place)
    }

    /// Refused now and ever after, and not worth waking for.
    func expectFault(_ wanted: VirtqueueError, at place: SourceLocation = #_sourceLocation) {
        for _ in 0..<2 {
            let (found, error) = ring.takeSlowly(&chain, rig.map)
            #expect(found == .refused && error == wanted, sourceLocation: place)
            let (arms, fault) = (ring.armAndRecheck(), ring.fault)
            #expect(!arms && fault == wanted && !wanted.description.isEmpty, sourceLocation: place)
            // Repentance does not help.
            rig.areas.driver.region.storeReleasing16(shown, at: rig.areas.driver.offset + 2)
            for index in 0..<rig.shape.size { describe(index, Rig.data, 16) }
        }
    }
}

/// A packed ring whose driver writes what it likes, in the first round.
private final class Packed {
    let rig: Rig
    var ring: PackedDeviceRing<NoLedger>
    var chain = DescriptorChain()

    init(size: Int = 8, tables: Bool = true) throws {
        rig = try Rig(Shape(isPacked: true, size: size, tables: tables, events: true))
        ring = try PackedDeviceRing(attaching: rig.areas, features: rig.shape.features)
    }

    func describe(_ index: Int, _ address: UInt64, _ count: UInt32, _ flags: DescriptorFlags = [], id: UInt16 = 0) {
        let place = rig.areas.descriptors.offset + 16 * index
        PackedDescriptor(address: address, byteCount: count, id: id, flags: flags).storeBody(rig.ringRegion, at: place)
        PackedDescriptor.storeFlags(flags.union(.available), rig.ringRegion, at: place)
    }

    func expect(_ taken: Taken, at place: SourceLocation = #_sourceLocation) throws {
        let found = try ring.take(into: &chain, from: rig.map)
        #expect(found == taken, sourceLocation: place)
    }

    func expectFault(_ wanted: VirtqueueError, at place: SourceLocation = #_sourceLocation) {
        for _ in 0..<2 {
            let (found, error) = ring.takeSlowly(&chain, rig.map)
            #expect(found == .refused && error == wanted, sourceLocation: place)
            let (arms, has, fault) = (ring.armAndRecheck(), ring.hasChains(), ring.fault)
            #expect(!arms && !has && fault == wanted && !wanted.description.isEmpty, sourceLocation: place)
            for index in 0..<rig.shape.size { describe(index, Rig.data, 16, id: UInt16(index)) }
        }
    }
}

@Suite struct HostileDriverTests {
    // MARK: Indices

    @Test func aHeadThatTheTableDoesNotHave() throws {
        for head in [8, 9, 0x7FFF, 0x8000, 0xFFFF] as [UInt16] {
            let it = try Split()
            it.show(head)
            it.expectFault(.noSuchDescriptor(head, size: 8))
        }
    }

    /// Every index near each boundary, with every number taken and answered before.
    @Test func anIndexMoreThanARingAhead() throws {
        for taken in 0...UInt16(8) {
            for answered in 0...taken {
                for lie in (0...20).map(UInt16.init) + [0x7FFF, 0x8000, 0xFFF0, 0xFFFF] {
                    let it = try Split()
                    for head in 0..<taken {
                        it.describe(Int(head), Rig.data, 16)
                        it.show(head)
                        try it.expect(.chain)
                    }
                    for head in 0..<answered { it.ring.put(ChainTicket(id: head, entries: 1), written: 0) }
                    _ = it.ring.publish()
                    it.rig.areas.driver.region.storeReleasing16(lie, at: it.rig.areas.driver.offset + 2)
                    // An honest driver has shown what we took, and at most a whole ring past what it was answered.
                    if lie >= taken, lie <= answered + 8 {
                        let has = it.ring.hasChains(), fault = it.ring.fault
                        #expect(has == (lie > taken) && fault == nil)
                        continue
                    }
                    it.shown = taken
                    it.expectFault(.tooFarAhead(available: lie, taken: taken, limit: 8 - (taken - answered)))
                    // What is in flight may still be answered.
                    if taken > answered { it.ring.put(ChainTicket(id: answered, entries: 1), written: 0) }
                    _ = it.ring.publish()
                    #expect(it.ring.unanswered == Int(taken - answered) - (taken > answered ? 1 : 0))
                }
            }
        }
    }

    /// The look before sleeping finds it: that there is something is true until it has been said what.
    @Test func anIndexThatIsFoundBeforeSleeping() throws {
        let it = try Split()
        it.rig.areas.driver.region.storeReleasing16(9, at: it.rig.areas.driver.offset + 2)
        for _ in 0..<2 {
            let arms = it.ring.armAndRecheck(), has = it.ring.hasChains()
            #expect(arms && has)
        }
        it.expectFault(.tooFarAhead(available: 9, taken: 0, limit: 8))
        let has = it.ring.hasChains()
        #expect(!has)
    }

    /// What is put and not published is not the driver's yet.
    @Test func unpublishedAnswersDoNotMakeRoom() throws {
        let it = try Split(size: 1)
        it.describe(0, Rig.data, 16)
        it.show(0)
        try it.expect(.chain)
        it.ring.put(it.chain.ticket, written: 0)
        it.show(0)
        it.expectFault(.tooFarAhead(available: 2, taken: 1, limit: 0))
    }

    @Test func aChainThatIsOutAlready() throws {
        let it = try Split()
        it.describe(3, Rig.data, 16)
        it.show(3, 3)
        try it.expect(.chain)
        it.expectFault(.alreadyInFlight(3))
        let other = try Packed()
        other.describe(0, Rig.data, 16, id: 700)
        other.describe(1, Rig.data, 16, id: 700)
        try other.expect(.chain)
        other.expectFault(.alreadyInFlight(700))
    }

    // MARK: Chains

    @Test func aNextThatTheTableDoesNotHave() throws {
        let it = try Split()
        it.describe(0, Rig.data, 16, .next, next: 8)
        it.show(0)
        it.expectFault(.noSuchDescriptor(8, size: 8))
    }

    @Test func circles() throws {
        for size in [1, 2, 8, 32768] {
            for back in [0, size / 2, size - 1] {
                let it = try Split(size: size)
                for index in 0..<size {
                    it.describe(index, Rig.data, 16, .next, next: UInt16(index == size - 1 ? back : index + 1))
                }
                it.show(0)
                it.expectFault(.chainTooLong(limit: size))
            }
        }
        // A chain of all entries is none.
        let whole = try Split()
        for index in 0..<8 { whole.describe(index, Rig.data, 16, index < 7 ? .next : [], next: UInt16(index + 1)) }
        whole.show(0)
        try whole.expect(.chain)
        #expect(whole.chain.readableCount == 8 && whole.chain.ticket.entries == 8)
    }

    /// A packed chain ends with what is not out; a round of entries that all go on is no chain.
    @Test func packedChainsThatDoNotEnd() throws {
        let it = try Packed()
        for index in 0..<8 { it.describe(index, Rig.data, 16, .next) }
        it.expectFault(.chainTooLong(limit: 8))
        let later = try Packed()
        later.describe(0, Rig.data, 16, id: 1)
        try later.expect(.chain)
        for index in 1..<8 { later.describe(index, Rig.data, 16, .next) }
        later.expectFault(.chainTooLong(limit: 7))
        // All entries are out, and yet one is available: in the second round.
        let full = try Packed(size: 2)
        full.describe(0, Rig.data, 16, id: 1)
        full.describe(1, Rig.data, 16, id: 2)
        try full.expect(.chain)
        try full.expect(.chain)
        PackedDescriptor.storeFlags(.used, full.rig.ringRegion, at: full.rig.areas.descriptors.offset)
        full.expectFault(.chainTooLong(limit: 0))
        full.ring.put(ChainTicket(id: 2, entries: 1), written: 0)
        _ = full.ring.publish()
        #expect(full.ring.unanswered == 1)
    }

    @Test func readableAfterWritable() throws {
        for empty in [0, 16] as [UInt32] {
            let it = try Split()
            it.describe(0, Rig.data, 16, [.next, .write], next: 1)
            it.describe(1, Rig.data, empty)
            it.show(0)
            it.expectFault(.readableAfterWritable)
            let packed = try Packed()
            packed.describe(0, Rig.data, 16, [.next, .write])
            packed.describe(1, Rig.data, empty)
            packed.expectFault(.readableAfterWritable)
        }
    }

    // MARK: Addresses

    @Test func bytesThatAreNoMemory() throws {
        let places: [(UInt64, UInt32, DescriptorFlags, VirtqueueError)] = [
            (UInt64.max, 2, [], .wraps(address: .max, byteCount: 2)),
            (
                UInt64.max - 0xFFFF_FFFF, .max, .write,
                .outsideMemory(address: 0xFFFF_FFFF_0000_0000, byteCount: .max, forWriting: true)
            ),
            (UInt64.max - 0xFFFF_FFFE, .max, [], .wraps(address: 0xFFFF_FFFF_0000_0001, byteCount: .max)),
            (0, 1, [], .outsideMemory(address: 0, byteCount: 1, forWriting: false)),
            (Rig.data - 1, 2, [], .outsideMemory(address: Rig.data - 1, byteCount: 2, forWriting: false)),
            (
                Rig.data + Rig.dataBytes - 1, 2, [],
                .outsideMemory(address: Rig.data + Rig.dataBytes - 1, byteCount: 2, forWriting: false)
            ),
            (Rig.data, .max, .write, .outsideMemory(address: Rig.data, byteCount: .max, forWriting: true)),
            (Rig.readOnly, 1, .write, .outsideMemory(address: Rig.readOnly, byteCount: 1, forWriting: true)),
        ]
        for (address, count, flags, wanted) in places {
            let it = try Split()
            it.describe(0, address, count, flags)
            it.show(0)
            it.expectFault(wanted)
            let packed = try Packed()
            packed.describe(0, address, count, flags)
            packed.expectFault(wanted)
        }
        // What lies in two regions that touch is memory, and so is what is only read.
        for (address, count) in [(Rig.data, UInt32(Rig.dataBytes)), (Rig.readOnly, 4096)] {
            let it = try Split()
            it.describe(0, address, count)
            it.show(0)
            try it.expect(.chain)
            #expect(it.chain.runs == [GuestRun(address: address, byteCount: count)])
        }
    }

    // MARK: Tables

    @Test func tablesThatMakeNoSense() throws {
        let lengths: [(UInt32, VirtqueueError)] = [
            (0, .tableLength(0)), (8, .tableLength(8)), (17, .tableLength(17)),
            (16 * 1025, .tableTooLong(entries: 1025, limit: 1024)), (0xFFFF_FFF0, .tableTooLong(entries: 0x0FFF_FFFF, limit: 1024)),
        ]
        for (length, wanted) in lengths {
            let it = try Split()
            it.describe(0, Rig.data, length, .indirect)
            it.show(0)
            it.expectFault(wanted)
            let packed = try Packed()
            packed.describe(0, Rig.data, length, .indirect)
            packed.expectFault(wanted)
        }
        let outside = try Split()
        outside.describe(0, Rig.apart + 4096 - 16, 32, .indirect)
        outside.show(0)
        outside.expectFault(.outsideMemory(address: Rig.apart + 4096 - 16, byteCount: 32, forWriting: false))
        let wraps = try Split()
        wraps.describe(0, UInt64.max - 14, 16, .indirect)
        wraps.show(0)
        wraps.expectFault(.wraps(address: UInt64.max - 14, byteCount: 16))
    }

    @Test func tablesThatWereNotAgreedOn() throws {
        let it = try Split(tables: false)
        it.describe(0, Rig.data, 16, .indirect)
        it.show(0)
        it.expectFault(.tableNotNegotiated)
        let packed = try Packed(tables: false)
        packed.describe(0, Rig.data, 16, .indirect)
        packed.expectFault(.tableNotNegotiated)
    }

    @Test func tablesInOrBeforeOthers() throws {
        let before = try Split()
        before.describe(0, Rig.data, 16, [.indirect, .next], next: 1)
        before.show(0)
        before.expectFault(.tableInChain)
        let packed = try Packed()
        packed.describe(0, Rig.data, 16, .next)
        packed.describe(1, Rig.data, 16, .indirect)
        packed.expectFault(.tableInChain)
        // One that points at itself is a table in a table.
        let itself = try Split()
        itself.rig.slow.put(Rig.apart, 8, at: Rig.apart)
        itself.rig.slow.put(16 | 4 << 32, 8, at: Rig.apart + 8)
        itself.describe(0, Rig.apart, 16, .indirect)
        itself.show(0)
        itself.expectFault(.tableInTable)
        let inPacked = try Packed()
        inPacked.rig.slow.put(16 | 4 << 48, 8, at: Rig.apart + 8)
        inPacked.describe(0, Rig.apart, 16, .indirect)
        inPacked.expectFault(.tableInTable)
    }

    /// Within a table: circles, and entries that it does not have.
    @Test func listsInTables() throws {
        for (next, wanted) in [(1, .chainTooLong(limit: 2)), (2, .noSuchDescriptor(2, size: 2))] as [(UInt64, VirtqueueError)] {
            let it = try Split()
            for entry in 0..<2 {
                it.rig.slow.put(Rig.data, 8, at: Rig.apart + 16 * UInt64(entry))
                it.rig.slow.put(16 | 1 << 32 | next << 48, 8, at: Rig.apart + 16 * UInt64(entry) + 8)
            }
            it.describe(0, Rig.apart, 32, .indirect)
            it.show(0)
            it.expectFault(wanted)
        }
    }

    /// Descriptors before a table are a chain with it, in a split ring; an empty descriptor says nothing.
    @Test func whatIsUnusualAndAllowed() throws {
        let it = try Split()
        it.rig.slow.put(Rig.data + 64, 8, at: Rig.apart)
        it.rig.slow.put(32 | 2 << 32, 8, at: Rig.apart + 8)
        it.describe(0, Rig.data, 16, .next, next: 5)
        it.describe(5, 0, 0, .next, next: 6)
        it.describe(6, Rig.apart, 16, .indirect)
        it.show(0)
        try it.expect(.chain)
        #expect(it.chain.runs == [GuestRun(address: Rig.data, byteCount: 16), GuestRun(address: Rig.data + 64, byteCount: 32)])
        #expect(it.chain.readableCount == 1 && it.chain.readableBytes == 16 && it.chain.writableBytes == 32)
        #expect(it.chain.ticket == ChainTicket(id: 0, entries: 3))
    }
}
