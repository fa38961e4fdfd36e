// One body for every interface under every connector.

import Connectors
import LinuxSystem
import NetworkDevices
import TestSupport
import Testing

/// A frame of so many bytes, each of which tells where it belongs.
private func frame(_ count: Int, _ seed: UInt8) -> [UInt8] {
    [0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x88, 0xB5]
        + (14..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) &+ seed }
}

@Suite(.serialized) struct InterfaceMatrixTests {
    /// Whoever sits at the other end of the cable is one of the connectors, too.
    @Test(.timeLimit(.minutes(1)), arguments: ConnectorKind.allCases, ConnectorKind.allCases)
    func framesCrossACableBothWays(_ connector: ConnectorKind, _ other: ConnectorKind) throws {
        let (links, log) = (NetworkLinks(), LineCollector())
        let here = try connector.connect(try links.end(of: "a", to: "b", mtu: 1500), log: log)
        defer { here.close() }
        let there = try other.connect(try links.end(of: "b", to: "a", mtu: 1500), log: log)
        defer { there.close() }
        for (index, count) in [60, 61, 1000, 1514].enumerated() {
            let (out, into) = (frame(count, UInt8(index)), frame(count, UInt8(100 + index)))
            try here.send(out)
            #expect(try there.receive() == out, "\(log.all)")
            try there.send(into)
            #expect(try here.receive() == into, "\(log.all)")
        }
    }

    @Test(.timeLimit(.minutes(1)), arguments: ConnectorKind.allCases)
    func nothingTakesEveryFrame(_ connector: ConnectorKind) throws {
        let log = LineCollector()
        let interface = try connector.connect(NullNetwork(), log: log)
        defer { interface.close() }
        for index in 0..<200 {
            let isSent = eventually(20_000) {
                do { try interface.send(frame(60 + index, 1)) } catch { return false }
                return true
            }
            #expect(isSent, "\(log.all)")
        }
    }

    @Test(.timeLimit(.minutes(1)), arguments: ConnectorKind.allCases)
    func aPortGivesAndTakes(_ connector: ConnectorKind) throws {
        let (port, log) = (try FramePort(name: "port", time: .system), LineCollector())
        let interface = try connector.connect(port.device, log: log)
        defer { interface.close() }
        try interface.send(frame(100, 3))
        #expect(try port.receive(timeout: .seconds(20))?.bytes == frame(100, 3), "\(log.all)")
        try port.send(frame(200, 4))
        #expect(try interface.receive() == frame(200, 4), "\(log.all)")
    }
}
