import LinuxSystem
import SharedMemory
import Testing
import VirtioRing
import VirtioWire

@testable import VhostUser

/// The order in which real front ends ask, as it was seen on their sockets.
@Suite("vhost-user: sessions") struct SessionTests {
    static let accepted = VirtioFeatures.version1.union(.protocolFeatures).rawValue

    private func bell() throws -> Descriptor { try EventCounter().descriptor }

    /// Memory of 16 pages at guest address 0, which the front end sees at 0x7000_0000.
    private func addMemory(_ frontend: inout ScriptedFrontend) throws {
        try frontend.send(.addRegion, quads(0, 0, 0x10000, 0x7000_0000, 0), [try memory()])
    }

    private func startRing(_ frontend: inout ScriptedFrontend, _ ring: UInt32, size: UInt32 = 128, base: UInt32 = 0) throws {
        let start = 0x7000_0000 + UInt64(ring) * 0x4000
        try frontend.send(.setRingSize, words(ring, size))
        try frontend.send(.setRingBase, words(ring, base))
        try frontend.send(.setRingAddresses, words(ring, 0) + quads(start, start + 0x2000, start + 0x1000, 0))
        try frontend.send(.setRingKick, quads(UInt64(ring)), [try bell()])
    }

    @Test("QEMU's disk: handshake, firmware on one ring, then Linux on both, over one connection")
    func firmwareThenLinux() throws {
        var frontend = ScriptedFrontend()
        #expect(number(try frontend.send(.getFeatures)) == frontend.session.offer.features.union(.protocolFeatures).rawValue)
        #expect(number(try frontend.send(.getProtocolFeatures)) == frontend.session.offer.protocolFeatures.rawValue)
        try frontend.send(.setProtocolFeatures, quads(frontend.session.offer.protocolFeatures.rawValue))
        #expect(number(try frontend.send(.getQueueCount)) == 2)
        #expect(number(try frontend.send(.getMostRegions)) == 32)
        try frontend.send(.setBackendSocket, [], [try bell()])
        try frontend.send(.setOwner)
        for ring: UInt64 in 0...1 {
            try frontend.send(.setRingCall, quads(ring), [try bell()])
            try frontend.send(.setRingError, quads(ring), [try bell()])
        }
        #expect(frontend.started.isEmpty)

        // The firmware's driver: fewer features, one ring; then every ring is enabled, set up or not.
        try frontend.send(.setFeatures, quads(Self.accepted))
        #expect(number(try frontend.send(.addRegion, quads(0, 0, 0x10000, 0x7000_0000, 0), [try memory()], needsReply: true)) == 0)
        try startRing(&frontend, 0)
        #expect(frontend.started == [0])
        #expect(frontend.plan(of: 0)?.isEnabled == false)
        #expect(frontend.plan(of: 0)?.call != nil)
        for ring: UInt32 in 0...1 { try frontend.send(.setRingEnabled, words(ring, 1)) }
        #expect(frontend.session.running == [0])

        // Linux's: everything is disabled and stopped, and comes back with other features and sizes.
        for ring: UInt32 in 0...1 { try frontend.send(.setRingEnabled, words(ring, 0)) }
        try frontend.send(.getRingBase, words(0, 0))
        #expect(frontend.session.running.isEmpty)
        try frontend.send(.setFeatures, quads(Self.accepted | VirtioFeatures.eventIndex.rawValue))
        for ring: UInt32 in 0...1 { try startRing(&frontend, ring, size: 64, base: 5) }
        for ring: UInt32 in 0...1 { try frontend.send(.setRingEnabled, words(ring, 1)) }
        #expect(frontend.session.running == [0, 1])
        let plan = try #require(frontend.plan(of: 1))
        #expect(plan.areas.size == 64)
        #expect(plan.base == 5)
        #expect(plan.features.contains(.eventIndex))
        #expect(plan.areas.descriptors.offset == 0x4000)
        #expect(plan.areas.driver.offset == 0x5000)
        #expect(plan.areas.device.offset == 0x6000)
    }

    @Test("a ring's base is what was last told, and after a stop what the ring says")
    func ringBase() throws {
        var frontend = ScriptedFrontend()
        try addMemory(&frontend)
        try frontend.send(.setRingBase, words(1, 77))
        #expect(try frontend.send(.getRingBase, words(1, 0)) == words(1, 77))
        try startRing(&frontend, 0)
        let envelope = try #require(try assemble(wire(11, words(0, 0))))
        guard case .perform(.stop(0)) = try frontend.session.handle(envelope) else { return #expect(Bool(false), "not stopped") }
        #expect(frontend.session.isBusy)
        let answer = frontend.session.stopped(65535)
        #expect(answer.map { Array($0.bytes.dropFirst(12)) } == words(0, 65535))
        #expect(!frontend.session.isBusy)
        #expect(try frontend.send(.getRingBase, words(0, 0)) == words(0, 65535))
    }

    @Test("a front end that does not know of enabling has all rings enabled by its features")
    func noEnabling() throws {
        var frontend = ScriptedFrontend()
        try addMemory(&frontend)
        try startRing(&frontend, 0)
        try frontend.send(.setFeatures, quads(VirtioFeatures.version1.rawValue))
        guard case .enable(let rings) = frontend.tasks.last else { return #expect(Bool(false), "\(frontend.tasks)") }
        #expect(rings.map(\.ring) == [0])
        try startRing(&frontend, 1)
        #expect(frontend.plan(of: 1)?.isEnabled == true)
    }

    @Test("settings of a running ring are refused, but for a log at the same addresses")
    func runningRing() throws {
        var frontend = ScriptedFrontend()
        try addMemory(&frontend)
        try startRing(&frontend, 0)
        let running = VhostUserError.ringIsRunning(0)
        #expect(throws: running) { try frontend.send(.setRingSize, words(0, 64)) }
        #expect(throws: running) { try frontend.send(.setRingBase, words(0, 1)) }
        #expect(throws: running) {
            try frontend.send(.setRingAddresses, words(0, 0) + quads(0x7000_0000, 0x7000_2000, 0x7000_1800, 0))
        }
        try frontend.send(.setRingAddresses, words(0, 1) + quads(0x7000_0000, 0x7000_2000, 0x7000_1000, 0x2000))
        #expect(frontend.session.running == [0])
        // But for what it is signalled by, either way.
        try frontend.send(.setRingKick, quads(0x100))
        guard case .kickBy(0, nil) = frontend.tasks.last else { return #expect(Bool(false), "\(frontend.tasks)") }
        #expect(frontend.session.running == [0])
    }

    @Test("rings that do not fit into memory are refused where they would start")
    func badRings() throws {
        for (descriptors, used, available, size) in [
            (0x7000_F800, 0x7000_2000, 0x7000_1000, 256), (0x7000_0008, 0x7000_2000, 0x7000_1000, 256),
            (0x7000_0000, 0x7000_2002, 0x7000_1000, 256), (0x7000_0000, 0x7000_2000, 0x7000_1001, 256),
            (0, 0x7000_2000, 0x7000_1000, 256), (0x7000_0000, 0x7000_2000, 0x7000_1000, 100),
        ] as [(UInt64, UInt64, UInt64, UInt32)] {
            var frontend = ScriptedFrontend()
            try addMemory(&frontend)
            try frontend.send(.setRingSize, words(0, size))
            try frontend.send(.setRingAddresses, words(0, 0) + quads(descriptors, used, available, 0))
            let kick = try bell()
            #expect(throws: VhostUserError.self) { try frontend.send(.setRingKick, quads(0), [kick]) }
            #expect(frontend.session.running.isEmpty)
        }
        var frontend = ScriptedFrontend()
        #expect(throws: VhostUserError.badRingSize(0)) { try frontend.send(.setRingSize, words(0, 0)) }
        #expect(throws: VhostUserError.badRingSize(65536)) { try frontend.send(.setRingSize, words(0, 65536)) }
        #expect(throws: VhostUserError.noSuchRing(2)) { try frontend.send(.setRingSize, words(2, 16)) }
        #expect(throws: VhostUserError.noSuchRing(255)) { try frontend.send(.setRingCall, quads(0x1FF)) }
    }

    @Test("memory that goes takes the rings along that lay in it, and no others")
    func memoryGone() throws {
        var frontend = ScriptedFrontend()
        try addMemory(&frontend)
        try frontend.send(.addRegion, quads(0, 0x10_0000, 0x10000, 0x8000_0000, 0), [try memory()])
        try startRing(&frontend, 0)
        try frontend.send(.setRingSize, words(1, 16))
        try frontend.send(.setRingAddresses, words(1, 0) + quads(0x8000_0000, 0x8000_2000, 0x8000_1000, 0))
        try frontend.send(.setRingKick, quads(0x101))
        #expect(frontend.session.running == [0, 1])
        #expect(frontend.plan(of: 1)?.kick == nil)
        try frontend.send(.removeRegion, quads(0, 0x10_0000, 0x10000, 0x8000_0000, 0))
        guard case .memory(let table, stopping: let stopped) = frontend.tasks.last else { return #expect(Bool(false), "no task") }
        #expect(table.entries.count == 1)
        #expect(stopped == [1])
        #expect(frontend.session.running == [0])
    }

    @Test("what was not offered is refused, aloud where a reply was wanted, else by ending the connection")
    func notOffered() throws {
        var frontend = ScriptedFrontend()
        #expect(throws: VhostUserError.notOffered(1 << 60)) { try frontend.send(.setFeatures, quads(1 << 60)) }
        #expect(throws: VhostUserError.notOffered(VirtioFeatures.logAll.rawValue)) {
            try frontend.send(.setFeatures, quads(Self.accepted | VirtioFeatures.logAll.rawValue))
        }
        #expect(throws: VhostUserError.notOffered(1 << 17)) { try frontend.send(.setProtocolFeatures, quads(1 << 17)) }
        let wanted = try #require(try assemble(wire(2, quads(1 << 60), needsReply: true)))
        let silent = try #require(try assemble(wire(2, quads(1 << 60))))
        #expect(frontend.session.refusal(of: wanted) == nil)
        try frontend.send(.setProtocolFeatures, quads(VhostProtocolFeatures.replyAck.rawValue))
        #expect(number(frontend.session.refusal(of: wanted).map { Array($0.bytes.dropFirst(12)) }) == 1)
        #expect(frontend.session.refusal(of: silent) == nil)
    }

    @Test("configuration is as long as was asked, whatever the device has", arguments: [0, 57, 60, 256])
    func configuration(byteCount: Int) throws {
        var frontend = ScriptedFrontend()
        let envelope = try #require(try assemble(wire(24, words(0, UInt32(byteCount), 0))))
        guard case .perform(.readConfiguration(0, byteCount)) = try frontend.session.handle(envelope) else {
            return #expect(Bool(false), "not asked")
        }
        let given = frontend.session.configuration(Array(repeating: 7, count: 60))
        let answer = try #require(given)
        #expect(answer.bytes.count == 12 + 12 + byteCount)
        #expect(Array(answer.bytes[12..<24]) == words(0, UInt32(byteCount), 0))
        #expect(answer.bytes.dropFirst(24).filter { $0 == 7 }.count == min(60, byteCount))
    }

    @Test("in-flight memory is made on demand, as long as QEMU's structure, and each ring has its part of it")
    func inflight() throws {
        var frontend = ScriptedFrontend(protocolFeatures: [.inflightMemory, .memorySlots])
        let asked = quads(0, 0) + words(2 | 128 << 16, 0)
        let envelope = try #require(try assemble(wire(31, asked)))
        guard case .done(let answer?) = try frontend.session.handle(envelope) else { return #expect(Bool(false), "no answer") }
        #expect(answer.bytes.count == 12 + 24)
        let memory = try #require(answer.descriptor)
        #expect(memory.cannotShrink)
        #expect(memory.fileByteCount == 8192)
        let payload = Array(answer.bytes.dropFirst(12))
        try frontend.send(.setInflight, payload, [memory])
        try addMemory(&frontend)
        try startRing(&frontend, 1)
        #expect(frontend.plan(of: 1)?.inflight?.offset == InflightLayout.byteCount(128))
        #expect(throws: VhostUserError.ringIsRunning(1)) { try frontend.send(.setInflight, payload, [memory]) }
        // A ring with more entries than there is room for has none.
        try startRing(&frontend, 0, size: 256)
        #expect(frontend.plan(of: 0)?.inflight == nil)
    }

    @Test("in-flight memory that is too small, askew, or could become shorter is refused")
    func badInflight() throws {
        var frontend = ScriptedFrontend(protocolFeatures: [.inflightMemory])
        let file = try memory(pages: 1)
        let pipe = try Descriptor.pipe().reader
        for (byteCount, offset, shape, descriptor) in [
            (4096, 0, 1 | 512 << 16, file), (4096, 4, 1 | 16 << 16, file), (4096, 4096, 1 | 16 << 16, file),
            (4096, .max - 7, 1 | 16 << 16, file), (4096, 0, 0, file), (4096, 0, 1, file), (.max, 0, 0xFFFF_FFFF, file),
            (4096, 0, 1 | 16 << 16, pipe),
        ] as [(UInt64, UInt64, UInt32, Descriptor)] {
            #expect(throws: VhostUserError.self) {
                try frontend.send(.setInflight, quads(byteCount, offset) + words(shape, 0), [descriptor])
            }
        }
        for shape: UInt32 in [0, 3 | 16 << 16, 1, 0xFFFF_FFFF] {
            #expect(throws: VhostUserError.self) { try frontend.send(.getInflight, quads(0, 0) + words(shape, 0)) }
        }
        var without = ScriptedFrontend(protocolFeatures: [])
        #expect(throws: VhostUserError.unknownRequest(31)) { try without.send(.getInflight, quads(0, 0) + words(1 | 16 << 16, 0)) }
    }

    @Test("a reset stops what runs and forgets the driver's features, but not the calls that QEMU sends once")
    func reset() throws {
        var frontend = ScriptedFrontend()
        try addMemory(&frontend)
        try frontend.send(.setFeatures, quads(Self.accepted))
        try frontend.send(.setRingCall, quads(0), [try bell()])
        try startRing(&frontend, 0)
        try frontend.send(.setStatus, quads(0xF))
        #expect(number(try frontend.send(.getStatus)) == 0xF)
        try frontend.send(.resetDevice)
        guard case .reset(let rings) = frontend.tasks.last else { return #expect(Bool(false), "no reset") }
        #expect(rings == [0])
        #expect(frontend.session.features == [])
        try startRing(&frontend, 0)
        #expect(frontend.plan(of: 0)?.call != nil)
    }

    @Test("a status of 0 stops every ring and resets, and where they were can be asked afterwards; any other is kept")
    func status() throws {
        var frontend = ScriptedFrontend()
        try addMemory(&frontend)
        try frontend.send(.setFeatures, quads(Self.accepted))
        for ring: UInt32 in 0...1 { try startRing(&frontend, ring) }
        try frontend.send(.setStatus, quads(0xB))
        #expect(number(try frontend.send(.getStatus)) == 0xB)
        #expect(frontend.session.running == [0, 1])
        frontend.base = 77
        try frontend.send(.setStatus, quads(0))
        let stopped = frontend.tasks.suffix(2).compactMap { if case .stop(let ring) = $0 { ring } else { nil } }
        #expect(stopped == [0, 1])
        #expect(number(try frontend.send(.getStatus)) == 0)
        #expect(frontend.session.running.isEmpty && frontend.session.features == [])
        for ring: UInt32 in 0...1 { #expect(try frontend.send(.getRingBase, words(ring, 0)) == words(ring, 77)) }
        try frontend.send(.setRingKick, quads(0), [try bell()])
        #expect(frontend.session.running.isEmpty, "its size and its addresses are forgotten")
        var without = ScriptedFrontend(protocolFeatures: [])
        #expect(throws: VhostUserError.unknownRequest(39)) { try without.send(.setStatus, quads(1)) }
    }

    @Test("a message starts a ring and kicks it, where that was agreed to, with all that it needs")
    func inBand() throws {
        let offered: VhostProtocolFeatures = [
            .inBandNotifications, .replyAck, .backendRequests, .memorySlots, .inflightMemory, .inflightAtStop,
        ]
        var frontend = ScriptedFrontend(protocolFeatures: offered)
        #expect(throws: VhostUserError.unknownRequest(35)) { try frontend.send(.ringKick, words(0, 0)) }
        for accepted: VhostProtocolFeatures in [
            .inBandNotifications, [.inBandNotifications, .replyAck], [.inBandNotifications, .backendRequests], .inflightAtStop,
        ] {
            #expect(throws: VhostUserError.lacking(accepted.needed)) {
                try frontend.send(.setProtocolFeatures, quads(accepted.rawValue))
            }
        }
        try frontend.send(.setProtocolFeatures, quads(offered.rawValue))
        try addMemory(&frontend)
        try frontend.send(.ringKick, words(0, 0))
        #expect(frontend.started.isEmpty)
        try frontend.send(.setRingSize, words(0, 16))
        try frontend.send(.setRingCall, quads(0x100))
        try frontend.send(.setRingAddresses, words(0, 0) + quads(0x7000_0000, 0x7000_2000, 0x7000_1000, 0))
        try frontend.send(.ringKick, words(0, 0))
        #expect(frontend.started == [0])
        let plan = try #require(frontend.plan(of: 0))
        #expect(plan.isKickedByMessage && plan.kick == nil && plan.messages == .error && !plan.leavesInflight)
        try frontend.send(.ringKick, words(0, 0))
        guard case .kick(ring: 0) = frontend.tasks.last else { return #expect(Bool(false), "no kick") }
        #expect(throws: VhostUserError.noSuchRing(2)) { try frontend.send(.ringKick, words(2, 0)) }
        // With a descriptor of its own it is as ever.
        try startRing(&frontend, 1)
        let other = try #require(frontend.plan(of: 1))
        #expect(!other.isKickedByMessage && other.kick != nil && other.messages == [.call, .error])
    }
}
