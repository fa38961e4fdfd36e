// Frames sent and received by a program, without a tap.

import LinuxSystem
import NetworkBackend
import NetworkFrontend
import TestSupport
import Testing
import XenWire

@Suite(.timeLimit(.minutes(1)), .serialized)
struct NetworkInterfaceTests {
    @Test func framesBothWays() throws {
        let pair = try NetworkPair()
        let baseline = pair.host.usage
        let interface = try NetworkInterface(hypervisor: pair.guest, number: 0)
        try interface.connect()
        #expect(interface.address == MACAddress("00:16:3e:01:02:03"))
        #expect(interface.mtu == 1500)
        for size in [14, 60, 1500, 1514, 1518] {
            let frame = plainFrame(size, seed: size)
            try interface.send(frame)
            expectSame(try pair.backWire.receive()?.frame ?? [], frame)
            try pair.backWire.send(frame)
            expectSame(try interface.receive(timeoutMilliseconds: 3000) ?? [], frame)
        }
        #expect(try interface.receive(timeoutMilliseconds: 0) == nil)
        let before = monotonicMilliseconds()
        #expect(try interface.receive(timeoutMilliseconds: 100) == nil)
        #expect(monotonicMilliseconds() - before >= 100)
        interface.close()
        expectBaseline(pair.host, baseline)
        pair.backend.stop()
    }

    @Test func sizesThatNoLinkCarries() throws {
        let pair = try NetworkPair()
        let interface = try NetworkInterface(hypervisor: pair.guest, number: 0)
        try interface.connect()
        for size in [0, 13, 1519, 70_000] {
            #expect(throws: NetworkInterfaceError.frameSize(size, allowed: 14...1518)) {
                try interface.send([UInt8](repeating: 0, count: size))
            }
        }
        interface.close()
        pair.backend.stop()
    }

    /// A blank checksum is finished before it gets here: the interface said that it takes none.
    @Test func checksumsAreFinished() throws {
        let pair = try NetworkPair()
        let interface = try NetworkInterface(hypervisor: pair.guest, number: 0)
        try interface.connect()
        var frame = [UInt8](repeating: 0, count: 60)
        frame.replaceSubrange(12..<34, with: [8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2])
        frame.replaceSubrange(34..<42, with: [0x30, 0x39, 0, 53, 0, 26, 0x14, 0x2E])
        try pair.backWire.send(frame, header: [1, 0, 0, 0, 0, 0, 34, 0, 6, 0])
        let got = try #require(try interface.receive(timeoutMilliseconds: 3000))
        #expect(got[40..<42] != frame[40..<42])
        // The sum over the pseudo header and the datagram, checksum included, is all ones.
        var sum = 17 + 26
        for index in stride(from: 26, to: 60, by: 2) { sum += Int(got[index]) << 8 | Int(got[index + 1]) }
        while sum > 0xFFFF { sum = sum & 0xFFFF + sum >> 16 }
        #expect(sum == 0xFFFF)
        interface.close()
        pair.backend.stop()
    }

    /// While the backend is away sends wait in the end, and go on when another comes.
    @Test func aBackendThatGoesAndComes() throws {
        let pair = try NetworkPair(backendDomain: 4)
        let interface = try NetworkInterface(hypervisor: pair.guest, number: 0)
        try interface.connect()
        pair.backend.kill()
        let frame = plainFrame(1000)
        #expect(throws: NetworkInterfaceError.timedOut) {
            for _ in 0..<20_000 { try interface.send(frame, timeoutMilliseconds: 50) }
        }
        let second = try RunningBackend(pair.host, domain: 4, device: pair.backWire.network)
        #expect(eventually(5000) { interface.frontend.connectionCount == 2 })
        try interface.send(frame, timeoutMilliseconds: 5000)
        expectSame(try pair.backWire.receive()?.frame ?? [], frame)
        try pair.toolstack.remove(pair.paths, force: false, milliseconds: 3000)
        #expect(throws: NetworkInterfaceError.ended(.removed)) {
            while try interface.receive(timeoutMilliseconds: 3000) != nil {}
        }
        interface.close()
        second.stop()
    }
}
