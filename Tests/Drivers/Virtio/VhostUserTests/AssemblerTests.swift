import LinuxSystem
import Testing
import VirtioWire

@testable import VhostUser

@Suite("vhost-user: messages out of a stream") struct AssemblerTests {
    @Test("a message is the same however it is cut", arguments: 1...32)
    func cut(piece: Int) throws {
        let bytes = wire(9, words(1, 0) + quads(0x1000, 0x3000, 0x2000, 0), needsReply: true)
        let envelope = try #require(try assemble(bytes, piece: piece))
        #expect(envelope.needsReply)
        guard case .setRingAddresses(1, let addresses) = envelope.message else {
            return #expect(Bool(false), "\(envelope.message)")
        }
        #expect(addresses == VhostRingAddresses(descriptors: 0x1000, available: 0x2000, used: 0x3000))
    }

    @Test("never more is wanted than the message in hand has")
    func wanted() throws {
        var assembler = VhostAssembler()
        #expect(assembler.wanted == 12)
        #expect(try assembler.take(wire(2, quads(0)).prefix(5).map { $0 }) == nil)
        #expect(assembler.wanted == 7)
        #expect(try assembler.take(Array(wire(2, quads(0))[5..<12])) == nil)
        #expect(assembler.wanted == 8)
        #expect(try assembler.take(quads(7)) != nil)
        #expect(assembler.wanted == 12)
    }

    @Test("descriptors come with a header's first byte, or the stream is over")
    func strayDescriptors() throws {
        let one = try memory()
        var inPayload = VhostAssembler()
        _ = try inPayload.take(Array(wire(5, quads(0)).prefix(12)))
        #expect(throws: VhostUserError.strayDescriptors) { try inPayload.take(quads(0), [one]) }
        var inHeader = VhostAssembler()
        _ = try inHeader.take([5])
        #expect(throws: VhostUserError.strayDescriptors) { try inHeader.take([0], [one]) }
        var many = VhostAssembler()
        #expect(throws: VhostUserError.strayDescriptors) { try many.take([5], Array(repeating: one, count: 33)) }
    }

    @Test("what a front end may not send is refused by name")
    func refused() throws {
        let one = try EventCounter().descriptor
        let pipe = try Descriptor.pipe()
        let cases: [([UInt8], [Descriptor], VhostUserError)] = [
            (wire(1, [], flags: 2), [], .badHeader(flags: 2)),
            (wire(1, [], flags: 5), [], .badHeader(flags: 5)),
            (wire(1, [], size: .max), [], .tooLong(byteCount: .max)),
            (wire(1, [], size: 4097), [], .tooLong(byteCount: 4097)),
            (wire(0, []), [], .unknownRequest(0)),
            (wire(4711, []), [], .unknownRequest(4711)),
            (wire(1, []), [one], .badDescriptors(.getFeatures, count: 1)),
            (wire(37, quads(0, 0, 4096, 0, 0)), [], .badDescriptors(.addRegion, count: 0)),
            (wire(12, quads(0)), [], .badDescriptors(.setRingKick, count: 0)),
            (wire(12, quads(0x100)), [one], .badDescriptors(.setRingKick, count: 1)),
            (wire(13, quads(0)), [pipe.writer], .noEvent(.setRingCall)),
            (wire(12, quads(0)), [pipe.reader], .noEvent(.setRingKick)),
            (wire(9, words(0, 0)), [], .badLength(.setRingAddresses, byteCount: 8)),
            (wire(5, words(2, 0) + quads(0, 4096, 0, 0)), [one], .badDescriptors(.setMemoryTable, count: 1)),
            (wire(5, words(1, 0) + quads(0, 4096, 0)), [one], .badLength(.setMemoryTable, byteCount: 32)),
            (wire(24, words(0, 257, 0)), [], .badConfiguration(offset: 0, byteCount: 257)),
            (wire(25, words(0, 8, 0, 0)), [], .badConfiguration(offset: 0, byteCount: 8)),
        ]
        for (bytes, descriptors, error) in cases {
            #expect(throws: error) { try assemble(bytes, descriptors: descriptors) }
        }
    }

    @Test("every message of any payload and any number of descriptors is taken apart or refused, and none stays open")
    func anyPayload() throws {
        let one = try memory()
        let before = Descriptor.openCount
        for request in VhostRequest.allCases {
            for length in stride(from: 0, through: 300, by: 4) {
                for count in [0, 1, 2, 8] {
                    let fill = UInt8(truncatingIfNeeded: length * 37 + count)
                    let own = try (0..<count).map { _ in try one.duplicate() }
                    _ = try? assemble(wire(request.rawValue, Array(repeating: fill, count: length)), descriptors: own)
                }
            }
        }
        #expect(Descriptor.openCount == before)
    }
}
