// The handshake's nodes: what is written can be read, what a peer may write is bounded before it means anything.

import BlockProtocol
import InProcess
import Testing
import XenBus
import XenStore
import XenTypes

@Suite(.timeLimit(.minutes(1)))
struct KeyTests {
    private func withStore(_ body: (StoreClient) throws -> Void) throws {
        let host = InProcessHost(time: .system)
        let client = try host.store.connectInProcess(domain: .zero)
        try body(client)
        client.close()
    }

    static let requests: [BlockRequestKeys] = [
        BlockRequestKeys(abi: "x86_64-abi", persistent: true, queues: [QueueKeys(ring: [GrantReference(8)], port: EventPort(3))]),
        BlockRequestKeys(
            abi: nil, persistent: false, queues: [QueueKeys(ring: (8..<16).map { GrantReference($0) }, port: EventPort(3))]),
        BlockRequestKeys(
            abi: "x86_32-abi", persistent: true,
            queues: (0..<3).map { q in QueueKeys(ring: [GrantReference(UInt32(8 + q))], port: EventPort(UInt32(1 + q))) }),
        BlockRequestKeys(
            abi: nil, persistent: true,
            queues: (0..<2).map { q in
                QueueKeys(ring: (0..<32).map { GrantReference(UInt32(100 * q) + $0) }, port: EventPort(UInt32(1 + q)))
            }),
    ]

    @Test func requestKeysRoundTrip_andLeaveNothingOfTheOnesBefore() throws {
        try withStore { client in
            let offer = BlockOffer(indirectSegments: 256, queues: 4, ringPageOrder: 5)
            for first in Self.requests {
                for second in Self.requests {
                    try client.atomically { access throws(XenbusError) in try first.write(to: access, at: "/front") }
                    try client.atomically { access throws(XenbusError) in try second.write(to: access, at: "/front") }
                    let read = try BlockRequestKeys.read(from: client, at: "/front", offer: offer)
                    #expect(read.queues == second.queues && read.persistent == second.persistent)
                }
            }
        }
    }

    @Test func offerAndPropertiesRoundTrip() throws {
        try withStore { client in
            for segments: UInt32 in [0, 12, 256, 4096] {
                for order: UInt32 in 0...5 {
                    let offer = BlockOffer(indirectSegments: segments, queues: 3, ringPageOrder: order)
                    try offer.write(to: client, at: "/back")
                    #expect(try BlockOffer.read(from: client, at: "/back") == offer)
                }
            }
            let properties = BlockProperties(
                sectors: 1 << 40, sectorSize: 4096, physicalSectorSize: 8192, info: [.cdrom, .readOnly], flush: true,
                barrier: false,
                discard: DiscardKeys(granularity: 65536, alignment: 4096, secure: true), persistent: true)
            try properties.write(to: client, at: "/back")
            #expect(try BlockProperties.read(from: client, at: "/back") == properties)
        }
    }

    @Test func anOrderOfZeroReadsEitherName() throws {
        try withStore { client in
            let offer = BlockOffer(indirectSegments: 0, queues: 1, ringPageOrder: 0)
            try client.write("/f/ring-page-order", "0")
            try client.write("/f/event-channel", "5")
            try client.write("/f/ring-ref0", "9")
            #expect(try BlockRequestKeys.read(from: client, at: "/f", offer: offer).queues[0].ring == [GrantReference(9)])
            try client.remove("/f/ring-ref0")
            try client.write("/f/ring-ref", "10")
            #expect(try BlockRequestKeys.read(from: client, at: "/f", offer: offer).queues[0].ring == [GrantReference(10)])
        }
    }

    @Test func theOlderNamesOfMultiPageRingsAreRead() throws {
        try withStore { client in
            let offer = BlockOffer(indirectSegments: 0, queues: 1, ringPageOrder: 3)
            try client.write("/f/num-ring-pages", "4")
            try client.write("/f/event-channel", "5")
            for page in 0..<16 { try client.write("/f/ring-ref\(page)", "\(20 + page)") }
            #expect(try BlockRequestKeys.read(from: client, at: "/f", offer: offer).queues[0].ring.count == 4)
            try client.write("/f/num-ring-pages", "3")
            #expect(throws: XenbusError.self) { try BlockRequestKeys.read(from: client, at: "/f", offer: offer) }
            try client.write("/f/num-ring-pages", "16")
            #expect(throws: XenbusError.self) { try BlockRequestKeys.read(from: client, at: "/f", offer: offer) }
        }
    }

    @Test func aPortIsNoneThatThereIsNot() throws {
        try withStore { client in
            let offer = BlockOffer(indirectSegments: 0, queues: 1, ringPageOrder: 0)
            try client.write("/f/ring-ref", "9")
            for (port, isOne) in [("0", false), ("4294967296", false), ("1", true)] {
                try client.write("/f/event-channel", port)
                #expect(((try? BlockRequestKeys.read(from: client, at: "/f", offer: offer)) != nil) == isOne, "\(port)")
            }
        }
    }

    @Test func offersAreCappedWhoeverMakesThem() {
        let offer = BlockOffer(indirectSegments: 1 << 30, queues: .max, ringPageOrder: 31)
        #expect(offer.queues == BlockOffer.mostQueues && offer.ringPageOrder == BlockOffer.mostRingPageOrder)
        #expect(BlockOffer(indirectSegments: 0, queues: 0, ringPageOrder: 0).queues == 1)
    }

    @Test(arguments: ["-1", "+1", " 1", "1 ", "0x1", "", "1.0", "99999999999999999999999", "\u{0661}"])
    func numbersAreDigitsOnly(_ text: String) { #expect(StoreNumber.parse(text, as: UInt32.self) == nil) }

    @Test func aBackendThatLiesAboutItsDiskIsRefused() throws {
        try withStore { client in
            let good = BlockProperties(sectors: 8)
            for (key, value) in [
                ("sectors", "99999999999999999999"), ("sectors", "-1"), ("sector-size", "0"), ("sector-size", "513"),
                ("sector-size", "131072"), ("sectors", "18014398509481984"),
            ] {
                try good.write(to: client, at: "/b")
                try client.write("/b/\(key)", value)
                #expect(throws: XenbusError.self, "\(key) \(value)") { try BlockProperties.read(from: client, at: "/b") }
            }
        }
    }

    @Test func D15_pathsThatAreNoDevice() {
        for path in [
            "/local/domain/0/backend/vbd", "/local/domain/0/backend/vbd/", "/local/domain/0/backend/vbd/1",
            "/local/domain/0/backend/vbd/x/1",
            "/local/domain/0/backend/vbd/1/x", "/local/domain/0/backend/vbd//1", "/local/domain/0/backend/vbd/70000/1",
            "/local/domain/0/backend/vbd/32752/1", "/local/domain/0/backend/vbd/1/-1", "/local/domain/0/backend/vif/1/0",
        ] { #expect(BackendPath.device(of: path, backend: .zero, kind: .block) == nil, "\(path)") }
        let id = BackendPath.device(of: "/local/domain/0/backend/vbd/1/51712/state", backend: .zero, kind: .block)
        #expect(id == DeviceID(frontend: DomainID(1), number: 51712))
    }

    @Test func aRemovedNodeIsNotMadeAgain() throws {
        try withStore { client in
            try client.write("/d/state", "4")
            #expect(try client.switchState(of: "/d", to: .closing))
            try client.remove("/d")
            #expect(try !client.switchState(of: "/d", to: .closed))
            #expect(try !client.exists("/d"))
        }
    }
}
