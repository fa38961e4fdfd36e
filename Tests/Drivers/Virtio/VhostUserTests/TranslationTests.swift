import LinuxSystem
import SharedMemory
import Testing
import VirtioRing
import VirtioWire

@testable import VhostUser

@Suite("vhost-user: IO addresses") struct TranslationTests {
    static let features: VirtioFeatures = [.version1, .accessPlatform]

    /// With 16 pages at guest address 0x10000, which the front end sees at 0x7000_0000, and a ring that is said to be
    /// at IO address 0xA000.
    private func frontend() throws -> ScriptedFrontend {
        var frontend = ScriptedFrontend(features: Self.features)
        try frontend.send(.setProtocolFeatures, quads(VhostProtocolFeatures([.replyAck, .backendRequests, .memorySlots]).rawValue))
        try frontend.send(.setFeatures, quads(Self.features.union(.protocolFeatures).rawValue))
        try frontend.send(.addRegion, quads(0, 0x10000, 0x10000, 0x7000_0000, 0), [try memory()])
        try frontend.send(.setRingSize, words(0, 16))
        try frontend.send(.setRingAddresses, words(0, 0) + quads(0xA000, 0xC000, 0xB000, 0))
        try frontend.send(.setRingKick, quads(0), [try EventCounter().descriptor])
        return frontend
    }

    private func word(_ kind: UInt8, _ address: UInt64, _ count: UInt64, user: UInt64 = 0, rights: UInt8 = 3) -> [UInt8] {
        quads(address, count, user) + [rights, kind] + [0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA]
    }

    private func update(_ frontend: inout ScriptedFrontend, _ page: UInt64, _ place: UInt64, rights: UInt8 = 3) throws {
        try frontend.send(.translation, word(2, page, 0x1000, user: 0x7000_0000 + place, rights: rights), needsReply: true)
    }

    @Test("a ring starts when the last of its pages is known, and stops when one is taken back")
    func ring() throws {
        var frontend = try frontend()
        #expect(frontend.started == [])
        try update(&frontend, 0xA000, 0x5000, rights: 1)
        try update(&frontend, 0xC000, 0x2000)
        #expect(frontend.started == [])
        try update(&frontend, 0xB000, 0x9000)
        #expect(frontend.started == [0])
        let plan = try #require(frontend.plan(of: 0))
        #expect(plan.areas.descriptors.offset == 0x5000 && plan.areas.device.offset == 0x2000 && plan.areas.driver.offset == 0x9000)
        #expect(plan.translations?.entry(at: 0xA010)?.target == 0x15000)
        frontend.base = 77
        try frontend.send(.translation, word(3, 0xB000, 0x1000), needsReply: true)
        #expect(frontend.session.running == [])
        try update(&frontend, 0xB000, 0x9000)
        #expect(frontend.started == [0, 0])
        #expect(frontend.plan(of: 0)?.base == 77)
        // Once the front end has stopped it, no page starts it.
        try frontend.send(.getRingBase, words(0, 0))
        for page in [0xA000, 0xB000, 0xC000] as [UInt64] { try update(&frontend, page, page - 0x8000) }
        #expect(frontend.started == [0, 0])
    }

    @Test("VU48: a ring that the device may not write is not served, and what else is said of addresses holds")
    func forbidden() throws {
        var frontend = try frontend()
        let error = try EventCounter()
        try frontend.send(.setRingError, quads(0), [error.descriptor])
        try update(&frontend, 0xA000, 0, rights: 1)
        try update(&frontend, 0xB000, 0x1000, rights: 1)
        try update(&frontend, 0xC000, 0x2000, rights: 1)
        #expect(frontend.started == [])
        guard case .broken(0, let reason) = frontend.tasks.last else { throw TranslationFailure("\(frontend.tasks)") }
        #expect(reason.contains("0xc000"), "\(reason)")
        #expect(error.descriptor.takeCount() > 0)
        #expect(frontend.session.translations.entries.count == 1)
    }

    private struct TranslationFailure: Error { init(_ text: String) { self.text = text }; let text: String }

    @Test("VU49: addresses that cannot be are refused in words, and the session goes on")
    func refused() throws {
        var frontend = try frontend()
        func refusal(_ payload: [UInt8]) -> String? {
            do { try frontend.send(.translation, payload, needsReply: true) } catch { return "\(error)" }
            return nil
        }
        #expect(refusal(word(2, 0x5000, 0, user: 0x7000_0000)) == "IO addresses from 0x5000 on: none at all")
        #expect(refusal(word(2, .max - 4, 8, user: 0x7000_0000))?.hasSuffix("8 bytes pass the end of all addresses") == true)
        #expect(
            refusal(word(2, 0x5000, 0x1000, user: 0x6FFF_F000))
                == "IO addresses for 4096 bytes at 0x6ffff000, which are not shared")
        #expect(refusal(word(2, 0x5000, 0x10001, user: 0x7000_0000))?.contains("not shared") == true)
        #expect(refusal(word(2, 0x5000, .max, user: 0x7000_0000))?.contains("pass the end") == true)
        #expect(refusal(word(2, 0, .max, user: .max))?.contains("not shared") == true)
        #expect(refusal(word(2, 0x5000, 0x1000, user: 0x7000_0000, rights: 0))?.contains("nothing may be done") == true)
        #expect(refusal(word(1, 0x5000, 0x1000))?.contains("kind 1") == true)
        #expect(refusal(word(4, 0x5000, 0x1000))?.contains("kind 4") == true)
        #expect(refusal(word(9, 0x5000, 0x1000)) != nil)
        try update(&frontend, 0x5000, 0)
        #expect(refusal(word(2, 0x5FFF, 0x1000, user: 0x7000_3000))?.contains("something else") == true)
        #expect(refusal(word(2, 0xFFFF_FFFF_FFFF_F000, 0x1000, user: 0x7000_0000)) == nil)
        #expect(frontend.session.translations.entry(at: .max)?.rights == [.read, .write])
        // All there is, as QEMU says it, and more than there is.
        for (address, count) in [(0, 0), (0x5000, .max)] as [(UInt64, UInt64)] {
            try update(&frontend, 0x5000, 0)
            #expect(refusal(word(3, address, count)) == nil)
            #expect(frontend.session.translations.entries == [])
        }
    }

    @Test("an IOMMU needs a way to be asked; without it the feature is refused")
    func needs() throws {
        var frontend = ScriptedFrontend(features: Self.features)
        try frontend.send(.setProtocolFeatures, quads(VhostProtocolFeatures.replyAck.rawValue))
        #expect(throws: VhostUserError.lacking([.backendRequests, .replyAck])) {
            try frontend.send(.setFeatures, quads(Self.features.union(.protocolFeatures).rawValue))
        }
        // And who has none is not asked.
        var plain = ScriptedFrontend()
        #expect(throws: VhostUserError.unknownRequest(22)) { try plain.send(.translation, word(2, 0, 4096)) }
    }

    @Test("what was true for one driver is not true for the next one, nor in other memory")
    func forgotten() throws {
        var frontend = try frontend()
        try update(&frontend, 0x5000, 0)
        try frontend.send(.setFeatures, quads(Self.features.union(.protocolFeatures).rawValue))
        #expect(frontend.session.translations.entries == [])
        for (page, place) in [(0xA000, 0), (0xB000, 0x1000), (0xC000, 0x2000)] as [(UInt64, UInt64)] {
            try update(&frontend, page, place)
        }
        #expect(frontend.session.running == [0])
        frontend.base = 5
        try frontend.send(.addRegion, quads(0, 0x40000, 0x10000, 0x8000_0000, 0), [try memory()], needsReply: true)
        #expect(frontend.session.running == [] && frontend.session.translations.entries == [])
        for (page, place) in [(0xA000, 0), (0xB000, 0x1000), (0xC000, 0x2000)] as [(UInt64, UInt64)] {
            try update(&frontend, page, place)
        }
        #expect(frontend.session.running == [0] && frontend.plan(of: 0)?.base == 5)
        try frontend.send(.getRingBase, words(0, 0))
        #expect(frontend.session.translations.entries == [])
    }

    @Test("a range that goes on from one region into the next is both")
    func acrossRegions() throws {
        var frontend = try frontend()
        try frontend.send(.addRegion, quads(0, 0x90000, 0x10000, 0x7001_0000, 0), [try memory()])
        try frontend.send(.translation, word(2, 0x10_0000, 0x2000, user: 0x7000_F000), needsReply: true)
        let entries = frontend.session.translations.entries
        #expect(entries.map(\.first) == [0x10_0000, 0x10_1000] && entries.map(\.target) == [0x1F000, 0x90000])
    }
}
