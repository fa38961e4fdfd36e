import DeviceState
import LinuxSystem
import SharedMemory
import Testing
import VirtioWire

@testable import VhostUser

/// What a successor is told brings it to where the predecessor was, and nothing else does.
@Suite("vhost-user: sessions that are handed over") struct HandoverTests {
    /// Every setting that a session can have: of two rings the first runs and the second is half set up.
    private func session() throws -> ScriptedFrontend {
        var frontend = ScriptedFrontend(protocolFeatures: Self.all)
        try frontend.send(.setProtocolFeatures, quads(Self.all.rawValue))
        try frontend.send(.setOwner)
        try frontend.send(.setBackendSocket, [], [try bell()])
        try frontend.send(.setFeatures, quads(SessionTests.accepted | VirtioFeatures.logAll.rawValue))
        try frontend.send(.addRegion, quads(0, 0, 0x10000, 0x7000_0000, 0), [try memory()])
        try frontend.send(.addRegion, quads(0, 0x10000, 0x4000, 0x8000_0000, 0x1000), [try memory()])
        try frontend.send(.setLogBase, quads(4096, 0), [try memory(pages: 1)])
        try frontend.send(.setLogDescriptor, [], [try bell()])
        try frontend.send(.setInflight, quads(8192, 0) + [2, 0, 128, 0], [try memory(pages: 2)])
        try frontend.send(.setStatus, quads(15))
        try frontend.send(.setRingSize, words(0, 128))
        try frontend.send(.setRingBase, words(0, 7))
        try frontend.send(.setRingAddresses, words(0, 1) + quads(0x7000_0000, 0x7000_2000, 0x7000_1000, 0x2000))
        try frontend.send(.setRingCall, quads(0), [try bell()])
        try frontend.send(.setRingError, quads(0), [try bell()])
        try frontend.send(.setRingEnabled, words(0, 1))
        try frontend.send(.setRingKick, quads(0), [try bell()])
        try frontend.send(.setRingKick, quads(1 | 1 << 8))
        try frontend.send(.setRingSize, words(1, 64))
        #expect(frontend.session.running == [0])
        return frontend
    }

    private static let all: VhostProtocolFeatures = [
        .multipleQueues, .replyAck, .backendRequests, .configuration, .resetDevice, .memorySlots, .status, .inflightMemory,
        .sharedLog,
    ]

    private func bell() throws -> Descriptor { try EventCounter().descriptor }

    private func successor(_ handover: VhostHandover, _ offer: VhostOffer) throws -> (VhostSession, [VhostTask]) {
        var (session, tasks) = (VhostSession(offer), [VhostTask]())
        try session.resume(handover) { tasks.append($0) }
        return (session, tasks)
    }

    @Test("a successor is where the predecessor was, and hands the same on")
    func same() throws {
        var before = try session().session
        before.held(0, at: 4711)
        let handover = before.handover(.block, try bell())
        #expect(handover.hasRings)
        #expect(!ScriptedFrontend(protocolFeatures: Self.all).session.handover(.block, try bell()).hasRings)
        // Everything that was said, by the messages' numbers.
        #expect(Set(handover.state.attributes.map(\.number)) == [2, 6, 7, 8, 9, 10, 12, 13, 14, 16, 18, 21, 32, 37, 39])
        // As bytes and back, which is how it goes.
        var moved = handover
        moved.state = try DeviceState(decoding: handover.state.encoded, understands: VhostSession.understands)
        #expect(moved.state == handover.state)
        let (after, tasks) = try successor(moved, before.offer)
        #expect(after.running == [0] && after.isEnabled(0) && !after.isEnabled(1))
        #expect(after.features == before.features && after.protocolFeatures == before.protocolFeatures)
        #expect(after.status == 15 && after.isLogging)
        let again = after.handover(.block, handover.socket)
        #expect(again.state == handover.state)
        #expect(again.descriptors.map(\.rawValue) == handover.descriptors.map(\.rawValue))
        let plan = tasks.compactMap { task in if case .start(0, let plan) = task { plan } else { nil } }
        #expect(plan.count == 1 && plan[0].base == 4711 && plan[0].isEnabled)
        #expect(plan.first?.inflight != nil && plan.first?.logging != nil && plan.first?.call != nil && plan.first?.kick != nil)
    }

    @Test("a ring that is kicked by messages is served on, and told by messages")
    func byMessages() throws {
        let protocolFeatures = Self.all.union(.inBandNotifications)
        var frontend = ScriptedFrontend(protocolFeatures: protocolFeatures)
        try frontend.send(.setProtocolFeatures, quads(protocolFeatures.rawValue))
        try frontend.send(.setBackendSocket, [], [try bell()])
        try frontend.send(.setFeatures, quads(SessionTests.accepted))
        try frontend.send(.addRegion, quads(0, 0, 0x10000, 0x7000_0000, 0), [try memory()])
        try frontend.send(.setRingSize, words(0, 128))
        try frontend.send(.setRingAddresses, words(0, 0) + quads(0x7000_0000, 0x7000_2000, 0x7000_1000, 0))
        try frontend.send(.setRingError, quads(0 | 1 << 8))
        try frontend.send(.ringKick, words(0, 0))
        #expect(frontend.session.running == [0])
        let handover = frontend.session.handover(.block, try bell())
        let (after, tasks) = try successor(handover, frontend.session.offer)
        #expect(after.running == [0])
        #expect(after.handover(.block, handover.socket).state == handover.state)
        let plan = try #require(tasks.compactMap { task in if case .start(0, let plan) = task { plan } else { nil } }.first)
        // Of calls nothing was said, so they are messages; of errors that nobody wants them.
        #expect(plan.isKickedByMessage && plan.messages == .call)
    }

    @Test("a session that has only begun can be handed over")
    func fresh() throws {
        let before = ScriptedFrontend().session
        let (after, _) = try successor(before.handover(.block, try bell()), before.offer)
        #expect(after.running.isEmpty && after.features == [])
        #expect(after.handover(.block, try bell()).state == before.handover(.block, try bell()).state)
    }

    @Test("what a successor does not offer, does not know or was not given is refused")
    func refused() throws {
        let before = try session().session
        let handover = before.handover(.block, try bell())
        var less = before.offer
        less.features.remove(.eventIndex)
        less.features.remove(.version1)
        #expect(throws: VhostResumeError.self) { _ = try successor(handover, less) }
        var fewer = VhostOffer(features: before.offer.features, protocolFeatures: before.offer.protocolFeatures, rings: 1)
        #expect(throws: VhostResumeError.self) { _ = try successor(handover, fewer) }
        fewer.rings = 1
        // Each descriptor missing, each attribute cut.
        for count in handover.descriptors.indices {
            var wrong = handover
            wrong.descriptors.removeLast(handover.descriptors.count - count)
            #expect(throws: VhostResumeError.self, "\(count) descriptors") { _ = try successor(wrong, before.offer) }
        }
        for index in handover.state.attributes.indices where handover.state.attributes[index].bytes.count > 8 {
            var wrong = handover
            wrong.state.attributes[index].bytes.removeLast(8)
            #expect(throws: VhostResumeError.self, "attribute \(index)") { _ = try successor(wrong, before.offer) }
        }
        for number in [1, 11, 31, 34, 99] as [UInt16] {
            var wrong = handover
            wrong.state.attributes.append(.init(.agreement, number, [0, 0, 0, 0]))
            #expect(throws: VhostResumeError.self, "attribute \(number)") { _ = try successor(wrong, before.offer) }
            #expect(throws: DeviceStateError.notUnderstood(group: 2, number: number)) {
                _ = try DeviceState(decoding: wrong.state.encoded, understands: VhostSession.understands)
            }
        }
    }
}
