// Whom a queue's grants are mapped for, and when the disk's reach of them ends.

@testable import BlockBackend
import DMA
import FrameMaps
import Hypervisor
import LinuxSystem
import SharedMemory
import Synchronization
import Testing
import TestSupport
import XenStore
import XenTypes

/// A hypervisor that says machine frames, and notes what is asked of it.
private final class FrameTeller: Hypervisor {
    struct State {
        var asked: [(reach: GrantReach, access: GrantAccess, count: Int)] = []
        var ended: [[UInt32]] = []
        var next: UInt32 = 0
        /// Called with each batch that ends.
        var whenEnding: (@Sendable () -> Void)?
    }
    let state = Mutex(State())
    let domain = DomainID.zero
    let time: any TimeSource = SystemTime()
    var reachesDevices: Bool { true }

    static func frame(_ reference: GrantReference) -> UInt64 { 0x6_0000 + UInt64(reference.rawValue) * 7 }

    func mapGrants(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess, reach: GrantReach
    ) throws(HypervisorError) -> [MappedGrant] {
        state.withLock { $0.asked.append((reach, access, references.count)) }
        var grants: [MappedGrant] = []
        for reference in references {
            let region: SharedRegion
            do throws(Errno) { region = try SharedRegion(anonymous: 4096) } catch { throw .exhausted("\(error)") }
            let handle = state.withLock { state in
                state.next += 1
                return state.next
            }
            let frame = Self.frame(reference)
            var machine: (@Sendable (Int) -> [UInt64])?
            if reach.hasDevice { machine = { (_: Int) -> [UInt64] in [frame] } }
            grants.append(
                MappedGrant(
                    handle: handle, region: region, offset: 0, reference: reference, granter: granter, machine: machine))
        }
        return grants
    }
    func mapGrants(_ references: [GrantReference], of granter: DomainID, access: GrantAccess) throws(HypervisorError)
        -> [MappedGrant]
    {
        try mapGrants(references, of: granter, access: access, reach: .memory)
    }
    func unmapGrants(_ grants: [MappedGrant]) {
        let told = state.withLock { state in
            state.ended.append(grants.map(\.handle))
            return state.whenEnding
        }
        told?()
    }
    func connectStore() throws(HypervisorError) -> StoreClient { throw .disconnected("no store") }
    func offerPages(_ count: Int, to peer: DomainID, access: GrantAccess) throws(HypervisorError) -> any OfferedPages {
        throw .disconnected("no pages")
    }
    func mapContiguous(_ references: [GrantReference], of granter: DomainID, access: GrantAccess) throws(HypervisorError)
        -> any ContiguousGrants
    { throw .disconnected("no ring") }
    func copyGrants(_ operations: [GrantCopy]) throws(HypervisorError) -> [GrantStatus] { [] }
    func allocateChannel(for remote: DomainID) throws(HypervisorError) -> any EventChannel { throw .disconnected("no port") }
    func bindChannel(remote: DomainID, port: EventPort) throws(HypervisorError) -> any EventChannel {
        throw .disconnected("no port")
    }
}

@Suite("Grants for a disk alone") struct DeviceReachTests {
    private let teller = FrameTeller()
    private let source = MachineFrameSource(
        name: "disk", make: { count throws(Errno) in (try SharedRegion(anonymous: count), []) }, log: { _ in })

    private func mapper(persistent: Int?, byFrames: Bool = true) throws -> GrantMapper {
        let dma = try DMADevice(name: "disk")
        if byFrames { #expect(dma.bus.takeAddresses(from: source)) }
        return GrantMapper(hypervisor: teller, frontend: DomainID(3), dma: dma, persistentLimit: persistent)
    }

    private func mapped(_ mapper: inout GrantMapper, _ range: Range<UInt32>, _ access: GrantAccess) throws -> [MappedGrant] {
        let grants = mapper.map(references(range), access)
        return try #require(grants)
    }

    private func references(_ range: Range<UInt32>) -> [GrantReference] { range.map { GrantReference($0) } }
    private var reaches: [GrantReach] { teller.state.withLock { $0.asked.map(\.reach) } }

    @Test func whatOnlyPassesIsMappedForTheDiskAlone() throws {
        var mapper = try mapper(persistent: nil)
        _ = mapper.map(references(8..<10), .readWrite)
        _ = mapper.map(references(10..<11), .readOnly, isLookedAt: true)
        #expect(reaches == [.device, .memory])
        #expect(mapper.passedCount == 2 && mapper.mappedCount == 3)
    }

    @Test func whatIsKeptMayBeLookedAtLater() throws {
        var mapper = try mapper(persistent: 8)
        _ = mapper.map(references(8..<10), .readOnly)
        _ = mapper.map(references(10..<11), .readOnly, isLookedAt: true)
        #expect(reaches == [.memoryAndDevice, .memoryAndDevice] && mapper.passedCount == 0)
    }

    @Test func otherDisksGetMemory() throws {
        var mapper = try mapper(persistent: nil, byFrames: false)
        _ = mapper.map(references(8..<10), .readOnly)
        #expect(reaches == [.memory])
    }

    @Test func theDiskIsToldTheFramesThatTheHypervisorSaid() throws {
        var mapper = try mapper(persistent: nil)
        let grants = try mapped(&mapper, 8..<10, .readWrite)
        let places = grants.map { mapper.hold($0).place }
        var segments: [BusSegment] = []
        let pieces = places.map { PagePiece(pfn: $0, offset: 512, byteCount: 1024) }
        let handle = try mapper.dma.map(pieces.span, .fromDevice, into: &segments)
        var told: [DeviceSegment] = []
        for segment in segments {
            #expect(mapper.dma.bus.isPlaced(segment, .fromDevice))
            mapper.dma.bus.tell(segment, to: &told)
        }
        #expect(
            told
                == references(8..<10).map {
                    DeviceSegment(address: DeviceAddress(rawValue: FrameTeller.frame($0) << 12 + 512), byteCount: 1024)
                })
        try mapper.dma.unmap(handle, .fromDevice)
        for grant in grants { mapper.end(grant) }
        mapper.unmapEnded()
    }

    /// One grant, mapped twice, is one frame in two places.
    @Test func aGrantInTwoRequestsIsTwoMappings() throws {
        var mapper = try mapper(persistent: nil)
        let first = try mapped(&mapper, 8..<9, .readOnly)[0]
        let second = try mapped(&mapper, 8..<9, .readWrite)[0]
        let (one, two) = (mapper.hold(first).place, mapper.hold(second).place)
        #expect(one != two && source.count == 2)
        mapper.end(first)
        mapper.unmapEnded()
        #expect(source.count == 1)
        var segments: [BusSegment] = []
        _ = try mapper.dma.map([PagePiece(pfn: two, offset: 0, byteCount: 4096)].span, .fromDevice, into: &segments)
        #expect(throws: DMAError.self) {
            _ = try mapper.dma.map([PagePiece(pfn: one, offset: 0, byteCount: 4096)].span, .toDevice, into: &segments)
        }
    }

    /// The disk is done with all of a batch, and has no place for it any more, before Xen takes it back.
    @Test func theReachEndsBeforeTheMapping() throws {
        var mapper = try mapper(persistent: nil)
        let grants = try mapped(&mapper, 8..<40, .readWrite)
        for grant in grants { _ = mapper.hold(grant) }
        #expect(source.count == 32)
        let seen = Atomic<Int>(-1)
        teller.state.withLock { state in
            state.whenEnding = { [source] in seen.store(source.count, ordering: .relaxed) }
        }
        for grant in grants { mapper.end(grant) }
        mapper.unmapEnded()
        #expect(seen.load(ordering: .relaxed) == 0)
        #expect(teller.state.withLock { $0.ended } == [grants.map(\.handle)])
    }

    /// A disk that was given up in the midst may still be at it: nothing is taken from Xen under its hands.
    @Test func whatMayBeUnderWayIsNotEnded() throws {
        for isUnderWay in [true, false] {
            teller.state.withLock { $0.ended = [] }
            var mapper = try mapper(persistent: 8)
            for grant in try mapped(&mapper, 8..<12, .readWrite) { _ = mapper.hold(grant) }
            let flight = isUnderWay ? mapper.dma.bus.beginFlight() : nil
            mapper.releaseEverything()
            #expect(teller.state.withLock { $0.ended.count } == (isUnderWay ? 0 : 1))
            #expect(source.count == (isUnderWay ? 4 : 0))
            if let flight { mapper.dma.bus.endFlight(flight) }
            #expect(source.count == 0)
        }
    }
}
