// A front end and its driver in a test's own process: a socket, memory shared by descriptor, rings in it. The guest's
// addresses and the front end's own are different numbers on purpose.

import Glibc
import LinuxSystem
import SharedMemory
import TestSupport
import Testing
import VhostUser
import VirtioRing
import VirtioWire

/// A driver's end of one ring, split or packed.
package protocol QueueDriver: AnyObject {
    func offer(_ chain: DescriptorChain) -> ChainTicket?
    func publish() -> Bool
    func reap() throws -> UsedChain?
}

package final class RingDriver<Ring: DriverRing & ~Copyable>: QueueDriver {
    package var ring: Ring
    package init(_ ring: consuming Ring) { self.ring = ring }
    package func offer(_ chain: DescriptorChain) -> ChainTicket? { ring.offer(chain) }
    package func publish() -> Bool { ring.publish() }
    package func reap() throws -> UsedChain? { try ring.reap() }
}

/// A front end over a socket of its own.
package final class VhostDriver {
    package static let guestBase: UInt64 = 0x1_0000_0000
    package static let userBase: UInt64 = 0x7F00_0000_0000
    /// Where data begins; rings lie before it.
    package static let dataStart = 0x40000

    package let region: SharedRegion
    package let features: VirtioFeatures
    /// What it agreed to of the protocol.
    package let protocolFeatures: VhostProtocolFeatures
    /// What its addresses go through; nil: nothing.
    package let iommu: FrontIommu?
    private let file: Descriptor
    private let socket: Descriptor
    package private(set) var service: VhostService
    package let kicks: [EventCounter]
    package let calls: [EventCounter]
    package let errors: [EventCounter]
    package private(set) var queues: [Int: any QueueDriver] = [:]
    /// Entries of each ring that was begun.
    package private(set) var sizes: [Int: Int] = [:]
    package let ended = LineCollector()
    /// Whether messages are expected to be taken.
    package var expectsAgreement = true
    /// What a keeper would have, were the back end's process killed.
    package let record: SessionRecord?
    /// The last answer's payload.
    package private(set) var lastAnswer: [UInt8] = []

    /// Connects, agrees and shares memory; no ring runs.
    package init(
        _ device: any VhostDevice, features: VirtioFeatures, rings: Int, pages: Int,
        agreeing protocolFeatures: VhostProtocolFeatures, isKept: Bool = false, mayShrink: Bool = false,
        iommu: FrontIommu? = nil
    ) throws {
        record = isKept ? SessionRecord() : nil
        self.features = iommu == nil ? features : features.union(.accessPlatform)
        self.iommu = iommu
        self.protocolFeatures = protocolFeatures
        let byteCount = pages * SharedRegion.pageSize
        if mayShrink {
            file = try UnsealedFile.make(byteCount: byteCount)
        } else {
            file = try SealedMemory("guest", byteCount: byteCount, final: false).descriptor
        }
        region =
            try iommu?.view(of: file)
            ?? SharedRegion(mapping: file, byteCount: byteCount, writable: true, survivesFaults: mayShrink)
        kicks = try (0..<rings).map { _ in try EventCounter() }
        calls = try (0..<rings).map { _ in try EventCounter() }
        errors = try (0..<rings).map { _ in try EventCounter() }
        let (ours, theirs) = try StreamSocket.pair()
        socket = ours
        service = try VhostService(theirs, device, resuming: nil, ended, record, trustsMemory: mayShrink)
        try send(16, protocolFeatures.rawValue)
        if let iommu { try send(21, descriptors: [iommu.theirs]) }
        try send(2, self.features.union(.protocolFeatures).rawValue)
        try addMemory()
    }

    /// Answers what the device has asked about its addresses.
    package func answerMisses() throws {
        guard let iommu else { return }
        for (address, count, place, rest) in try iommu.dueAnswers() { try send(22, address, count, Self.userBase + place, rest) }
    }

    /// Takes IO addresses back, and waits until that is done.
    package func invalidate(_ offset: Int, _ count: Int) throws {
        try send(22, iommu?.address(offset) ?? 0, UInt64(count), 0, 3 << 8)
    }

    /// Makes its memory shorter, which was trusted not to become so.
    package func shrink() { #expect(ftruncate(file.rawValue, 0) == 0) }

    /// Puts the connection by, as for a successor; what came first in the way, if something did.
    package func putBy() throws -> VhostHandover {
        guard case .held(let handover) = service.hold() else { throw TimedOut("not put by: \(ended.all)") }
        return handover
    }

    /// Has another device go on with what was put by; in `service` from then on.
    package func goOn(_ device: any VhostDevice, _ handover: VhostHandover) throws {
        service = try VhostService(handover.socket, device, resuming: handover, ended, record)
    }

    package func addMemory() throws {
        try send(37, 0, Self.guestBase, UInt64(region.byteCount), Self.userBase, 0, descriptors: [file])
    }

    /// Memory for what is in flight, for one ring of up to 16 entries.
    package func addInflight() throws {
        let memory = try SealedMemory("inflight", byteCount: SharedRegion.pageSize, final: true)
        try send(32, UInt64(memory.byteCount), 0, 1 | 16 << 16, descriptors: [memory.descriptor])
    }

    package func removeMemory() throws { try send(38, 0, Self.guestBase, UInt64(region.byteCount), Self.userBase, 0) }

    /// Makes a ring and starts it.
    package func start(_ ring: Int = 0, size: Int = 16, isEnabled: Bool = true) throws {
        try begin(ring, size: size)
        try send(18, words: UInt32(ring), isEnabled ? 1 : 0)
    }

    /// The same, before it is enabled.
    package func begin(_ ring: Int, size: Int) throws {
        let start = ring * 0x8000
        let areas = VirtqueueAreas(in: region, at: start, size: size, features: features)
        queues[ring] =
            areas.isPacked
            ? RingDriver(PackedDriverRing(initialising: areas, features: features))
            : RingDriver(SplitDriverRing(initialising: areas, features: features))
        sizes[ring] = size
        try settle(ring, base: areas.isPacked ? 0x8000 : 0)
    }

    /// Has the driver begin a ring that was stopped as if there had been none.
    package func renew(_ ring: Int = 0) throws {
        let areas = VirtqueueAreas(in: region, at: ring * 0x8000, size: sizes[ring] ?? 0, features: features)
        for area in [areas.descriptors, areas.driver, areas.device] { region.fill(area.offset, count: 16) }
        queues[ring] =
            areas.isPacked
            ? RingDriver(PackedDriverRing(initialising: areas, features: features))
            : RingDriver(SplitDriverRing(initialising: areas, features: features))
        try settle(ring, base: areas.isPacked ? 0x8000 : 0)
    }

    /// Says what a ring is, and starts it.
    package func settle(_ ring: Int, base: UInt32) throws {
        try send(8, words: UInt32(ring), UInt32(sizes[ring] ?? 0))
        try send(10, words: UInt32(ring), base)
        try place(ring, isLogged: false)
        // By messages: nothing more is to be said.
        if protocolFeatures.contains(.inBandNotifications) { return }
        try send(13, UInt64(ring), descriptors: [calls[ring].descriptor])
        try send(14, UInt64(ring), descriptors: [errors[ring].descriptor])
        try send(12, UInt64(ring), descriptors: [kicks[ring].descriptor])
    }

    /// Starts a ring again that was stopped; what the driver has in it stays.
    package func resume(_ ring: Int, base: UInt32) throws {
        try send(10, words: UInt32(ring), base)
        try send(12, UInt64(ring), descriptors: [kicks[ring].descriptor])
    }

    /// Another region beside the first: a new table.
    package func addMoreMemory() throws {
        let more = try SealedMemory("more", byteCount: SharedRegion.pageSize, final: false)
        try send(37, 0, Self.guestBase << 1, UInt64(more.byteCount), Self.userBase >> 1, 0, descriptors: [more.descriptor])
    }

    /// The same memory once more, in a table of its own: the back end maps it anew.
    package func sendTable() throws {
        let region: [UInt64] = [Self.guestBase, UInt64(self.region.byteCount), Self.userBase, 0]
        _ = try exchange(5, bytes(1, 8) + region.flatMap { bytes($0, 8) }, [file])
    }

    package func removeMoreMemory() throws {
        try send(38, 0, Self.guestBase << 1, UInt64(SharedRegion.pageSize), Self.userBase >> 1, 0)
    }

    /// Says where a ring is, and whether what the device writes into it is logged.
    package func place(_ ring: Int, isLogged: Bool) throws {
        let areas = VirtqueueAreas(in: region, at: ring * 0x8000, size: sizes[ring] ?? 0, features: features)
        let user = { [iommu] (area: RingArea) in iommu?.address(area.offset) ?? Self.userBase + UInt64(area.offset) }
        let number = UInt64(ring) | (isLogged ? 1 << 32 : 0)
        try send(
            9, number, user(areas.descriptors), user(areas.device), user(areas.driver),
            iommu?.address(areas.device.offset) ?? Self.guestBase + UInt64(areas.device.offset))
    }

    /// Sends a message that is to be acknowledged, and expects that it is; the answer's payload.
    @discardableResult
    package func send(_ code: UInt32, _ values: UInt64..., descriptors: [Descriptor] = []) throws -> [UInt8] {
        try exchange(code, values.flatMap { bytes($0, 8) }, descriptors)
    }

    @discardableResult
    package func send(_ code: UInt32, words: UInt32...) throws -> [UInt8] {
        try exchange(code, words.flatMap { bytes(UInt64($0), 4) }, [])
    }

    private func bytes(_ value: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    /// What a message without an answer of its own is acknowledged with.
    package func exchange(_ code: UInt32, _ payload: [UInt8], _ descriptors: [Descriptor]) throws -> [UInt8] {
        let isAcknowledged = code != 16 || !queues.isEmpty
        let header = [code, isAcknowledged ? 9 : 1, UInt32(payload.count)].flatMap { bytes(UInt64($0), 4) }
        try PacketSocket.send(socket, header + payload, descriptors)
        if code == 16 { return [] }
        let head = try receive(12)
        let size = Int(head[8]) | Int(head[9]) << 8
        let answer = try receive(size)
        lastAnswer = answer
        if size == 8, ![11, 24].contains(code), expectsAgreement {
            #expect(answer.allSatisfy { $0 == 0 }, "message \(code) was refused")
        }
        return answer
    }

    private func receive(_ count: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let more = try StreamSocket.receive(socket.rawValue, capacity: count - bytes.count, wait: true)
            guard !more.isEmpty else { throw TimedOut("the back end ended the connection: \(ended.all)") }
            bytes += more
        }
        return bytes
    }

    /// Ends the connection, and waits until everything has stopped.
    package func leave() {
        socket.shutDown()
        service.join()
    }

    /// Sends a message and does not wait for its answer.
    package func say(_ bytes: [UInt8]) throws { try PacketSocket.send(socket, bytes, []) }

    /// So many bytes of answers.
    package func hear(_ count: Int) throws -> [UInt8] { try receive(count) }

    // MARK: Chains

    package func run(_ offset: Int, _ count: Int) -> GuestRun {
        GuestRun(address: iommu?.address(offset) ?? Self.guestBase + UInt64(offset), byteCount: UInt32(count))
    }

    /// Where a test's page of data begins.
    package func place(_ page: Int) -> Int { Self.dataStart + page * SharedRegion.pageSize }

    /// Offers a chain and kicks if that is wanted.
    @discardableResult
    package func offer(_ chain: DescriptorChain, on ring: Int) throws -> ChainTicket {
        let queue = try #require(queues[ring])
        let ticket = try #require(queue.offer(chain))
        if queue.publish() { kicks[ring].ring() }
        return ticket
    }

    /// The next used chain.
    package func reap(on ring: Int = 0) throws -> UsedChain {
        let queue = try #require(queues[ring])
        var used: UsedChain?
        _ = try eventually(30_000) {
            try answerMisses()
            used = try queue.reap()
            return used != nil
        }
        return try #require(used, "no answer")
    }
}
