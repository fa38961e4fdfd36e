// One transmit ring, its journal, and a backend that dies between any two of its steps: with no pair, no thread and no
// device.

@testable import NetworkBackend
import NetworkProtocol
import SharedMemory
import SharedRing
import Testing
import XenTypes

struct SlotRecoveryTests {
    /// A frontend and the backends that follow each other on its ring.
    private struct Succession: ~Copyable {
        let region: SharedRegion
        let other: SharedRegion
        let memory: SharedRegion
        let keys = NetworkQueueKeys(transmit: GrantReference(8), receive: GrantReference(9), port: EventPort(3))
        var front: FrontRing<TransmitRing>
        var back: BackRing<TransmitRing>
        var journal: InterfaceJournal
        var packet = TransmitPacket()
        /// Answers that are due, in order.
        var expected: [(id: UInt16, isExtra: Bool)] = []
        var answered = 0
        /// Of packets that the backend has in hand.
        var waiting: [[TransmitResponse]] = []
        var nextID: UInt16 = 0
        var random = SystemRandomNumberGenerator()

        /// - Parameters:
        ///   - region: the transmit ring's page.
        ///   - other: the receive ring's.
        ///   - memory: the journal's.
        init(_ region: SharedRegion, _ other: SharedRegion, _ memory: SharedRegion) {
            self.region = region
            self.other = other
            self.memory = memory
            front = FrontRing<TransmitRing>(initialising: region, TransmitRing())
            var empty = FrontRing<ReceiveRing>(initialising: other, ReceiveRing())
            _ = empty.publish()
            back = BackRing(attaching: region, TransmitRing())
            journal = InterfaceJournal(beginning: memory, of: keys)
        }

        /// The frontend takes answers: each is the next that is due.
        mutating func collect() throws {
            while let response = try front.nextResponse() {
                let wanted = expected[answered]
                answered += 1
                try #require(wanted.isExtra ? response.status == .null : response.id == wanted.id && response.status != .null)
            }
        }

        /// The frontend sends a packet of any shape.
        mutating func send() {
            let count = Int.random(in: 1...5, using: &random)
            let hasExtra = Bool.random(using: &random)
            guard Int(front.freeSlots) >= count + 1 else { return }
            for index in 0..<count {
                var flags: TransmitFlags = index + 1 < count ? .moreData : []
                if index == 0, hasExtra { flags.insert(.extraInfo) }
                let size = index == 0 ? UInt16(count * 100) : 100
                _ = front.push(
                    TransmitSlot(TransmitRequest(reference: GrantReference(1), offset: 0, flags: flags, id: nextID, size: size)))
                expected.append((nextID, false))
                nextID &+= 1
                if index == 0, hasExtra {
                    _ = front.push(TransmitSlot(ExtraInfo(segmenting: .tcp4, size: 1000)))
                    expected.append((0, true))
                }
            }
            _ = front.publish()
        }

        /// The answers to the packet in hand.
        private var answers: [TransmitResponse] {
            [TransmitResponse(id: packet.parts[0].id, status: .okay)]
                + Array(repeating: TransmitResponse(id: 0, status: .null), count: packet.extraCount)
                + packet.parts.dropFirst().map { TransmitResponse(id: $0.id, status: .okay) }
        }

        /// The backend takes a packet, or dies before it has written that down, which leaves the slots to the
        /// successor.
        mutating func take() throws {
            let index = back.nextRequestIndex
            guard let slot = try back.nextRequest() else { return }
            _ = try packet.assemble(slot, from: &back)
            if Bool.random(using: &random) {
                journal.took(packet, at: index)
                waiting.append(answers)
            } else {
                try succeed()
            }
        }

        /// The backend answers the oldest packet that it has in hand.
        mutating func answer() { if !waiting.isEmpty { for answer in waiting.removeFirst() { back.push(answer) } } }

        /// The backend dies, and another goes on.
        mutating func succeed() throws {
            let found = try InterfaceRecovery(journal: memory, of: keys, transmitRing: region, receiveRing: other)
            back = try BackRing(
                resuming: region, TransmitRing(), consumed: found.transmit.consumed, published: found.transmit.published)
            journal = InterfaceJournal(resuming: memory)
            waiting = []
            for answer in found.unanswered { back.push(answer) }
            if Bool.random(using: &random) { _ = back.publish() }
        }

        /// The last backend answers all that is left.
        mutating func finish() throws {
            try succeed()
            while let slot = try back.nextRequest() {
                _ = try packet.assemble(slot, from: &back)
                for answer in answers { back.push(answer) }
            }
            _ = back.publish()
            try collect()
        }
    }

    /// Every moment at which a backend can die between two of its steps, at random: each slot is answered once, in
    /// order, under its own id.
    @Test func everySlotIsAnsweredOnce() throws {
        for _ in 0..<300 {
            var succession = Succession(
                try SharedRegion(anonymous: 4096), try SharedRegion(anonymous: 4096), try SharedRegion(anonymous: 4096))
            for _ in 0..<200 {
                switch Int.random(in: 0..<10) {
                case 0...3: succession.send()
                case 4...5: try succession.take()
                case 6: succession.answer()
                case 7: _ = succession.back.publish()
                case 8: try succession.succeed()
                default: try succession.collect()
                }
            }
            try succession.finish()
            #expect(succession.answered == succession.expected.count)
        }
    }
}
