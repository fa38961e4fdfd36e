// Three looks that are the same whatever a frontend did: nothing is held that was not before, whoever behaves is
// served, and nobody sees a byte that was not granted.

import DriverRuntime
import Foundation
import Hypervisor
import LinuxSystem
import MockPeers
import NetworkBackend
import NetworkProtocol
import SharedMemory
import SharedRing
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenTypes

/// What hostile frontends of interfaces do elsewhere in these tests.
enum InterfaceAttack: String, CaseIterable, Sendable {
    case badGrants, pastThePage, emptySlots, shortFrames, badPages, nonsenseRequests, manyAddresses, keptPages
    case endlessPackets, endlessExtras, lyingIndex, statesAtRandom, leavesInTheMiddle

    /// Whether its interface is given up, or its connection is over.
    var endsConnection: Bool {
        switch self {
        case .pastThePage, .endlessPackets, .endlessExtras, .lyingIndex, .statesAtRandom, .leavesInTheMiddle: true
        default: false
        }
    }
}

extension MockNetworkFrontend {
    func perform(_ attack: InterfaceAttack) throws {
        switch attack {
        case .badGrants:
            for reference: UInt32 in [0, 7, 31_000, .max] {
                send([slot(reference, 300, .moreData), request(size: 100, flags: .moreData), request(size: 100)])
                _ = try answers(3)
            }
        case .pastThePage: send([request(page: 1, offset: 4000, size: 200)])
        case .emptySlots:
            for _ in 0..<20 {
                send((0..<3).map { request(page: $0, size: $0 == 0 ? 100 : 0, flags: $0 < 2 ? .moreData : []) })
                _ = try answers(3)
            }
        case .shortFrames:
            send((0..<14).map { request(size: $0) })
            _ = try answers(14)
        case .badPages:
            for reference: UInt32 in [0, 31_000, .max] {
                _ = receive.push(ReceiveRequest(id: 1, reference: GrantReference(reference)))
            }
            if receive.publish() { bell.notify() }
        case .nonsenseRequests:
            for kind: UInt16 in 0..<14 {
                for data: UInt32 in [0, 1, 129, 1 << 31, .max] { _ = try ask(kind, data, data, data) }
            }
        case .manyAddresses:
            for number in 0..<100 {
                let extra = ExtraInfo(multicast: MACAddress(littleEndian: 1 | UInt64(number) << 40), isAdded: number % 3 != 0)
                send([request(size: 0, flags: .extraInfo), TransmitSlot(extra)])
                _ = try answers(2)
            }
        case .keptPages: try map(Array(0..<40))
        case .endlessPackets: send((0..<30).map { request(page: $0, size: 100, flags: .moreData) })
        case .endlessExtras:
            var extra = ExtraInfo(word: 1)
            extra.hasMore = true
            send([request(size: 100, flags: .extraInfo)] + (0..<20).map { _ in TransmitSlot(extra) })
        case .lyingIndex:
            transmitPage.region.storeReleasing(UInt32(1) << 31, at: RingHeader.requestProduced)
            bell.notify()
        case .statesAtRandom: for state in ["4", "1", "9", "", "6", "3", "5"] { try store.write(path + "/state", state) }
        case .leavesInTheMiddle:
            post(Array(0..<32))
            send((32..<60).map { request(page: $0, size: 1000) })
        }
        if attack.endsConnection, attack != .statesAtRandom, attack != .leavesInTheMiddle { try wait(for: [.closing]) }
    }

    private func slot(_ reference: UInt32, _ size: Int, _ flags: TransmitFlags) -> TransmitSlot {
        TransmitSlot(
            TransmitRequest(reference: GrantReference(reference), offset: 0, flags: flags, id: 0, size: UInt16(size)))
    }
}

@Suite(.serialized, .timeLimit(.minutes(2))) struct SweepTests {
    private let mark = Canary(0xF00D)

    @Test(arguments: InterfaceAttack.allCases)
    func M6_M7_M10_anAttackOnAnInterfaceLeavesNothingKeepsNobodyOutAndShowsNothing(_ attack: InterfaceAttack) throws {
        let others = try Wire("other")
        let pair = try NetworkPair { host, device in
            let hypervisor = host.domain(0)
            return try RunningBackend(hypervisor, through: hypervisor) { (settings) throws(DeviceOpenFailure) in
                settings.device.frontend == DomainID(1) ? device : others.network
            }
        }
        let paths = try pair.toolstack.create(VifSpecification(), frontend: DomainID(2), random: .system)
        let victim = try MockNetworkFrontend(pair.host.domain(2), paths)
        try victim.wait(for: [.connected])
        mark.paint(victim.data.region)
        try works(victim, others)
        let first = try MockNetworkFrontend(pair)
        try first.wait(for: [.connected])
        try first.closeForAnother()
        let before = HeldResources.settled(pair.host)
        try suffer(attack, pair, victim, others)
        #expect(eventually(3000) { HeldResources(pair.host) == before }, "\(before) before, \(HeldResources(pair.host)) after")
        try victim.close()
        pair.backend.stop()
    }

    private func suffer(_ attack: InterfaceAttack, _ pair: NetworkPair, _ victim: MockNetworkFrontend, _ others: Wire) throws {
        var raw = try MockNetworkFrontend(pair)
        try raw.wait(for: [.connected])
        try raw.perform(attack)
        try works(victim, others)
        // What its device is given, and what it can look at.
        while let (_, frame) = try pair.backWire.receive(milliseconds: 5) { #expect(!mark.isIn(Data(frame))) }
        for region in [raw.data.region, raw.transmitPage.region, raw.receivePage.region, raw.controlPage.region] {
            #expect(!mark.isIn(region))
        }
        if attack.endsConnection || attack == .badPages {
            try raw.closeForAnother()
            raw = try MockNetworkFrontend(pair)
            try raw.wait(for: [.connected])
        }
        for _ in 0..<1000 { try #require(try pair.serves(raw)) }
        try works(victim, others)
        let begun = monotonicMilliseconds()
        try raw.closeForAnother()
        #expect(monotonicMilliseconds() - begun < 1000)
    }

    /// Marked frames go from the other guest and come to it.
    private func works(_ victim: MockNetworkFrontend, _ wire: Wire) throws {
        for page in 0..<8 {
            victim.send([victim.request(page: page, size: 200)])
            try #require(try victim.answers(1)[0].status == .okay)
            try #require(try wire.receive()?.frame == mark.bytes(200))
            victim.post([page])
            try wire.send(mark.bytes(200))
            try #require(try victim.received().response.status == 200)
        }
    }
}
