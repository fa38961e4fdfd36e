import LinuxSystem
import SharedMemory
import Testing
import VirtioRing
import VirtioWire

@testable import VhostUser

@Suite("vhost-user: the log of dirty pages") struct LogTests {
    static let plain = VirtioFeatures.version1.union(.protocolFeatures).rawValue
    static let logged = plain | VirtioFeatures.logAll.rawValue

    /// With 16 pages at guest address 0x10000, which the front end sees at 0x7000_0000, and a ring that runs.
    private func frontend(_ protocolFeatures: VhostProtocolFeatures = [.sharedLog, .memorySlots, .replyAck]) throws
        -> ScriptedFrontend
    {
        var frontend = ScriptedFrontend(protocolFeatures: protocolFeatures)
        try frontend.send(.setProtocolFeatures, quads(protocolFeatures.rawValue))
        try frontend.send(.setFeatures, quads(Self.plain))
        try frontend.send(.addRegion, quads(0, 0x10000, 0x10000, 0x7000_0000, 0), [try memory()])
        try frontend.send(.setRingSize, words(0, 16))
        try place(&frontend, log: nil)
        try frontend.send(.setRingKick, quads(0), [try EventCounter().descriptor])
        #expect(frontend.started == [0])
        return frontend
    }

    private func place(_ frontend: inout ScriptedFrontend, log: UInt64?) throws {
        let addresses = quads(0x7000_0000, 0x7000_2000, 0x7000_1000, log ?? 0)
        try frontend.send(.setRingAddresses, words(0, log == nil ? 0 : 1) + addresses)
    }

    private func lastLog(_ frontend: ScriptedFrontend) -> [(ring: Int, VhostLogging?)]? {
        if case .log(let rings) = frontend.tasks.last { rings } else { nil }
    }

    @Test("QEMU's order when a migration begins and fails: log, feature, addresses; and back")
    func qemuBegins() throws {
        var frontend = try frontend()
        #expect(number(try frontend.send(.getFeatures)).map { $0 & VirtioFeatures.logAll.rawValue } != 0)
        #expect(frontend.plan(of: 0)?.logging == nil)
        #expect(try frontend.send(.setLogBase, quads(64, 0), [try memory(pages: 1)]) == quads(0))
        #expect(lastLog(frontend) == nil)
        try frontend.send(.setFeatures, quads(Self.logged))
        let begun = try #require(lastLog(frontend)?.first)
        #expect(begun.ring == 0)
        let logging = try #require(begun.1)
        #expect(logging.ring == nil && logging.log.pageCount == 512)
        try place(&frontend, log: 0x12000)
        let ring = try #require(lastLog(frontend)?.first?.1?.ring)
        #expect(ring.device == 0x12000 && ring.descriptors == 0x10000)
        try frontend.send(.setFeatures, quads(Self.plain))
        #expect(lastLog(frontend)?.first.map { $0.1 == nil } == true)
        let tasks = frontend.tasks.count
        try place(&frontend, log: nil)
        #expect(frontend.tasks.count == tasks)
        #expect(frontend.session.running == [0])
    }

    @Test("QEMU's order when a device starts in a migration: feature, addresses, log")
    func qemuStarts() throws {
        var frontend = try frontend()
        try frontend.send(.getRingBase, words(0, 0))
        try frontend.send(.setFeatures, quads(Self.logged))
        try place(&frontend, log: 0x12000)
        try frontend.send(.setRingKick, quads(0), [try EventCounter().descriptor])
        #expect(frontend.plan(of: 0)?.logging == nil)
        try frontend.send(.setLogBase, quads(64, 0), [try memory(pages: 1)])
        #expect(lastLog(frontend)?.first?.1?.ring?.device == 0x12000)
        // A ring that starts later has it from its start; a reset of the driver's does not end it.
        try frontend.send(.resetDevice)
        try frontend.send(.setFeatures, quads(Self.logged))
        try frontend.send(.setRingSize, words(0, 16))
        try place(&frontend, log: 0x12000)
        try frontend.send(.setRingKick, quads(0), [try EventCounter().descriptor])
        #expect(frontend.plan(of: 0)?.logging?.ring?.device == 0x12000)
    }

    @Test("a log that is empty, askew, too short for its file, or could become shorter is refused, and ends the connection")
    func badLogs() throws {
        var frontend = try frontend()
        let file = try memory(pages: 1)
        let pipe = try Descriptor.pipe().reader
        for (byteCount, offset, descriptor) in [
            (0, 0, file), (64, 4, file), (64, 4088, file), (8192, 0, file), (.max, 8, file), (1 << 40, 0, file),
            (64, .max - 7, file),
            (64, 0, pipe),
        ] as [(UInt64, UInt64, Descriptor)] {
            #expect(throws: VhostUserError.self) { try frontend.send(.setLogBase, quads(byteCount, offset), [descriptor]) }
            #expect(frontend.session.log == nil)
        }
        #expect(throws: VhostUserError.logMayShrink) { try frontend.send(.setLogBase, quads(64, 0), [pipe]) }
        #expect(throws: VhostUserError.noEvent(.setLogDescriptor)) { try frontend.send(.setLogDescriptor, [], [pipe]) }
        let envelope = try #require(try assemble(wire(6, quads(64, 4), needsReply: true), descriptors: [file]))
        #expect(frontend.session.refusal(of: envelope) == nil)
        var without = ScriptedFrontend(protocolFeatures: [])
        #expect(throws: VhostUserError.unknownRequest(6)) { try without.send(.setLogBase, quads(64, 0), [file]) }
        #expect(throws: VhostUserError.unknownRequest(7)) { try without.send(.setLogDescriptor, [], [EventCounter().descriptor]) }
    }

    @Test("a log without bits for memory or a ring is refused, whichever comes last; what it was stays")
    func shortLogs() throws {
        let short = VhostUserError.shortLog(pages: 24, guest: 0x10000)
        var frontend = try frontend()
        try frontend.send(.setLogBase, quads(3, 0), [try memory(pages: 1)])
        #expect(throws: short) { try frontend.send(.setFeatures, quads(Self.logged)) }
        try frontend.send(.setLogBase, quads(4, 0), [try memory(pages: 1)])
        try frontend.send(.setFeatures, quads(Self.logged))
        #expect(throws: short) { try frontend.send(.setLogBase, quads(3, 0), [try memory(pages: 1)]) }
        #expect(frontend.session.log?.pageCount == 32)
        #expect(throws: VhostUserError.shortLog(pages: 32, guest: 0x20000)) {
            try frontend.send(.addRegion, quads(0, 0x20000, 0x10000, 0x8000_0000, 0), [try memory()])
        }
        #expect(frontend.session.memory.entries.count == 1)
        for address: UInt64 in [0x20000, 0x1_FFFC, .max] {
            #expect(throws: VhostUserError.shortLog(pages: 32, guest: address)) { try place(&frontend, log: address) }
        }
        try place(&frontend, log: 0x12000)
        // Not on: then memory is not held against it.
        try frontend.send(.setFeatures, quads(Self.plain))
        try frontend.send(.addRegion, quads(0, 0x20000, 0x10000, 0x8000_0000, 0), [try memory()])
    }
}
