// The messages: whatever is written is read back, and whatever else arrives is refused without a trap.

import HypervisorRules
import LinuxSystem
@testable import Loopback
import Testing
import XenTypes

@Suite struct CodecTests {
    static let requests: [Request] = [
        .hello(.given), .hello(.domain(DomainID(7))), .hello(.control), .addTableFrame,
        .makeRun(pages: 9, peer: DomainID(3), access: .readOnly), .armRun(RunID(5)), .retireRun(RunID(.max)),
        .map(granter: DomainID(1), access: .readWrite, [GrantReference(8), GrantReference(.max)]),
        .map(granter: DomainID(1), access: .readOnly, []),
        .unmap([UnmapRequest(handle: 1, reference: GrantReference(2), granter: DomainID(3))]),
        .allocatePort(remote: .zero), .bindPort(remote: DomainID(9), port: EventPort(77)), .closePort(EventPort(1)),
        .connectStore, .createDomain(nil, user: nil, .withSocket), .createDomain(DomainID(5), user: 1000, .untilDestroyed),
        .openDomain(DomainID(4)), .destroyDomain(DomainID(4)), .listDomains, .usage(nil), .usage(DomainID(2)),
        .noticeUnmap(handle: 7, EndOrder(byte: 4095, port: EventPort(3))), .noticeUnmap(handle: .max, EndOrder()),
        .noticeRetire(RunID(5), page: 2, EndOrder(byte: 0)), .bindVirtual(.domainException),
        .mapForeign(DomainID(1), access: .readOnly, [0x1000, .max]), .portStatus(.zero, EventPort(4)),
        .describeDomains(from: DomainID(3)),
    ]

    static let answers: [Answer] = [
        .done, .refused(.port(EventPort(3), "EINVAL")), .refused(.limit("runs", 7)), .refused(.notAllowed),
        .welcome(DomainID(5)), .tableFrame(index: 3), .run(NewRun(id: RunID(9), firstFrame: 0x1000)),
        .retired(atOnce: true),
        .mapped(
            [MapResult(status: .okay, handle: 1, run: RunID(2), page: 3), MapResult(status: .badPage)],
            [RunAnnouncement(run: RunID(2), pages: 8, machine: MachineRun(start: 5, factor: 7, addend: 9))]),
        .unmapped([.okay, .badHandle]), .port(PortID(8), EventPort(9)), .domain(DomainID(1)),
        .domains([.zero, DomainID(4)]), .usage(HypervisorUsage()),
        .refused(.noSuchMapping), .refused(.notWritable), .refused(.virqTaken(8)),
        .portStatus(.closed), .portStatus(.unbound(DomainID(2))), .portStatus(.interdomain(DomainID(1), EventPort(9))),
        .portStatus(.virtual(3)),
        .described([
            DomainDescription(
                domain: DomainID(7), pages: 9, isTranslated: true,
                uuid: .init(path: "/vm/00112233-4455-6677-8899-aabbccddeeff"))
        ]),
    ]

    @Test(arguments: requests) func aRequestComesBackAsItWas(_ request: Request) throws {
        let bytes = request.encode(sequence: 77)
        #expect(bytes.count <= PacketSocket.longestMessage)
        let (decoded, sequence) = try Request.decode(bytes)
        #expect(decoded == request && sequence == 77)
        for cut in 0..<bytes.count { #expect(throws: MalformedMessage.self) { try Request.decode(Array(bytes[..<cut])) } }
        #expect(throws: MalformedMessage.self) { try Request.decode(bytes + [0]) }
    }

    @Test(arguments: answers) func anAnswerComesBackAsItWas(_ answer: Answer) throws {
        let bytes = answer.encode(sequence: .max)
        let (decoded, sequence) = try Answer.decode(bytes)
        #expect(decoded == answer && sequence == .max)
        for cut in 0..<bytes.count { #expect(throws: MalformedMessage.self) { try Answer.decode(Array(bytes[..<cut])) } }
    }

    @Test func theLargestMessagesFit() {
        let most = Request.mostGrants
        #expect(
            Request.unmap(Array(repeating: UnmapRequest(handle: 1, reference: GrantReference(1), granter: .zero), count: most))
                .encode(sequence: 1).count <= PacketSocket.longestMessage)
        #expect(
            Answer.mapped(
                Array(repeating: MapResult(status: .okay), count: most),
                Array(
                    repeating: RunAnnouncement(run: RunID(1), pages: 1, machine: MachineRun(start: 0, factor: 1, addend: 0)),
                    count: PacketSocket.mostDescriptors)
            )
            .encode(sequence: 1).count <= PacketSocket.longestMessage)
    }

    @Test func junkAndFlippedBitsAreRefusedOrUnderstoodButNeverTrap() {
        var random = SystemRandomNumberGenerator()
        let seeds = Self.requests.map { $0.encode(sequence: 1) } + Self.answers.map { $0.encode(sequence: 1) }
        var refused = 0
        for round in 0..<30_000 {
            var bytes = seeds[round % seeds.count]
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                switch Int.random(in: 0..<4, using: &random) {
                case 0 where !bytes.isEmpty: bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= 1 << UInt8.random(in: 0..<8)
                case 1 where !bytes.isEmpty: bytes.removeLast(Int.random(in: 1...bytes.count, using: &random))
                case 2: bytes += (0..<Int.random(in: 1...20, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
                default: if !bytes.isEmpty { bytes[Int.random(in: 0..<bytes.count, using: &random)] = 0xFF }
                }
            }
            if (try? Request.decode(bytes)) == nil { refused += 1 }
            _ = try? Answer.decode(bytes)
            _ = try? Notice.decode(bytes)
        }
        #expect(refused > 1000)
    }
}
