// Frontends that misbehave around connecting and disconnecting, row by row of the attack list (section B): everything is given back, the
// process and the other interfaces go on.

import Foundation
import HostDevices
import Hypervisor
import InProcessHypervisor
import LinuxSystem
@testable import NetworkBackend
import SharedMemory
import SharedRing
import Synchronization
import TestSupport
import Testing
import Toolstack
import XenBus
import XenStore
import XenWire

@Suite(.timeLimit(.minutes(3)), .serialized)
struct HostileLifetimeTests {
    /// XSA-90: the data path ends an interface while the control plane is busy with something else that takes long.
    @Test func B3_aFatalPacketWhileTheControlThreadIsBusy() throws {
        let wire = try Wire("back")
        let gate = Flag()
        let entered = Flag()
        let host = InProcessHost()
        let client = try host.store.connectInProcess(domain: .zero)
        let toolstack = DeviceDirectories(store: client)
        let backend = try RunningBackend(host) { settings in
            if settings.device.number == 1 {
                entered.set()
                while !gate.isSet { usleep(1000) }
            }
            return wire.network
        }
        let pair = NetworkPair(
            host: host, toolstack: toolstack, backend: backend, guest: host.domain(1),
            paths: try toolstack.create(VifSpecification(), frontend: DomainID(1)), backWire: wire, frontWire: try Wire("front"))
        let raw = try RawVif(pair)
        try raw.wait(for: [.connected])
        _ = try toolstack.create(VifSpecification(), frontend: DomainID(1))
        #expect(eventually { entered.isSet })
        raw.send([raw.request(size: 200, flags: .moreData, id: 3)])
        // Answered at once, and from then on nothing is taken.
        #expect(try raw.answers(1, milliseconds: 500)[0].status == .error)
        raw.send([raw.request(size: 60, id: 4)])
        usleep(100_000)
        #expect(try raw.transmit.nextResponse() == nil)
        #expect(try raw.state() == .connected, "the control thread is still busy")
        gate.set()
        try raw.wait(for: [.closing])
        try raw.close()
        backend.stop()
    }

    /// XSA-374: a fatal packet, then a disconnect a moment later, whichever comes first.
    @Test func B7_aFatalPacketAndADisconnectAtOnce() throws {
        let pair = try NetworkPair()
        let baseline = pair.host.usage
        for round in 0..<60 {
            let raw = try RawVif(pair)
            try raw.wait(for: [.connected])
            raw.send([raw.request(size: 200, flags: .moreData)])
            usleep(UInt32(round * 997 % 1000))
            try raw.close()
            try raw.reset(pair)
        }
        expectBaseline(pair.host, baseline)
        let raw = try RawVif(pair)
        try raw.wait(for: [.connected])
        #expect(try raw.isServed())
        try raw.close()
        pair.backend.stop()
    }

    /// XSA-424: packets are dropped in every place that can drop them, at once: full ring, timer, bad packets, teardown.
    @Test func B11_droppingEverywhere() throws {
        var options = NetworkBackendOptions()
        options.drainMilliseconds = 1
        let pair = try NetworkPair(options)
        let baseline = pair.host.usage
        let wire = pair.backWire
        let flood = try Pest { try? wire.send(plainFrame(5000)) }
        for round in 0..<30 {
            let raw = try RawVif(pair)
            try raw.wait(for: [.connected])
            raw.post([0])
            for _ in 0..<20 { raw.send([raw.request(size: 5)]) }
            usleep(UInt32(round * 1000 % 9000))
            // Every other one is thrown out, the rest leave.
            if round % 2 == 0 { raw.send([raw.request(size: 200, flags: .moreData)]) }
            try raw.close()
            try raw.reset(pair)
        }
        flood.stop()
        expectBaseline(pair.host, baseline)
        let raw = try RawVif(pair)
        try raw.wait(for: [.connected])
        #expect(try raw.isServed())
        try raw.close()
        pair.backend.stop()
    }

    /// Every key that connecting reads, wrong; then right. Nothing is left in between (see B16_B17_B29 for what is said of it).
    @Test func B17_B19_connectsThatFailAtEachStepLeaveNothing() throws {
        let pair = try NetworkPair()
        let baseline = pair.host.usage
        let service = pair.backend.service
        // Statistics are read all the while (XSA-526).
        let reader = try Pest { _ = service.status.flatMap(\.queues).count }
        for round in 0..<4 {
            for keys: [String: String] in [
                ["multi-queue-num-queues": "0"], ["tx-ring-ref": "31000"], ["rx-ring-ref": "31000"], ["event-channel": "4000"],
                ["ctrl-ring-ref": "31000"], ["event-channel-ctrl": "4000"], ["event-channel-ctrl": "0"],
                ["multi-queue-num-queues": "2"], ["request-rx-copy": "0"], ["tx-ring-ref": "x\(round)"],
            ] {
                let raw = try RawVif(pair, keys: keys)
                try raw.wait(for: [.closing])
                try raw.close()
                try raw.reset(pair)
            }
        }
        expectBaseline(pair.host, baseline)
        let raw = try RawVif(pair)
        try raw.wait(for: [.connected])
        #expect(try raw.isServed())
        reader.stop()
        try raw.close()
        pair.backend.stop()
    }

    /// Rings, packets and control requests after the frontend has closed: nobody looks at its pages any more.
    @Test func B18_eventsAfterTheEnd() throws {
        let (pair, raw) = try connectedRaw()
        #expect(try raw.isServed())
        try raw.store.write(raw.path + "/state", "6")
        try raw.wait(for: [.closed])
        #expect(eventually { (0..<1).allSatisfy { raw.transmitPage.isMapped(page: $0) == false } })
        #expect(raw.receivePage.isMapped(page: 0) == false && raw.controlPage.isMapped(page: 0) == false)
        let deadline = monotonicMilliseconds() + 1000
        while monotonicMilliseconds() < deadline {
            raw.send([raw.request(size: 60)])
            raw.bell.notify()
            raw.controlBell.notify()
            try pair.backWire.send(plainFrame(60))
            usleep(20_000)
        }
        #expect(try raw.transmit.nextResponse() == nil)
        while try pair.backWire.receive(milliseconds: 0) != nil {}
        try raw.close()
        try raw.reset(pair)
        let next = try RawVif(pair)
        try next.wait(for: [.connected])
        #expect(try next.isServed())
        try next.close()
        pair.backend.stop()
    }

    /// XSA-527: multicast lists changed by the hundred, with traffic, and a disconnect in the middle.
    @Test func B20_multicastChangesWhileDisconnecting() throws {
        let pair = try NetworkPair()
        let baseline = pair.host.usage
        let wire = pair.backWire
        let flood = try Pest {
            var frame = plainFrame(60)
            frame.replaceSubrange(0..<6, with: [1, UInt8.random(in: 0...9), 0, 0, 0, 0])
            try? wire.send(frame)
            usleep(50)
        }
        for round in 0..<30 {
            let raw = try RawVif(pair, keys: ["request-multicast-control": "1"])
            try raw.wait(for: [.connected])
            raw.post(Array(0..<20))
            for index in 0..<100 {
                raw.send([
                    raw.request(size: 0, flags: .extraInfo),
                    TransmitSlot(
                        ExtraInfo(multicast: MACAddress(littleEndian: 1 | UInt64(index % 70) << 8), isAdded: index % 3 != 0)),
                ])
            }
            usleep(UInt32(round * 311 % 5000))
            try raw.close()
            try raw.reset(pair)
        }
        flood.stop()
        expectBaseline(pair.host, baseline)
        pair.backend.stop()
    }

    /// Hash settings that change with every few frames: each frame is whole and says what it was hashed with, if at all.
    @Test func B21_hashSettingsThatChangeUnderTraffic() throws {
        let (pair, raw) = try connectedRaw()
        raw.data.region.fill(50 * 4096, count: 4096, with: 0x5A)
        #expect(try raw.ask(7, 1).status == .success)
        #expect(try raw.ask(5, 128).status == .success)
        var frame = [UInt8](repeating: 0, count: 80)
        frame.replaceSubrange(12..<34, with: [8, 0, 0x45, 0, 0, 66, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2])
        frame[46] = 0x50
        var hashed = 0
        for round in 0..<300 {
            switch round % 5 {
            // Refused while there is no algorithm.
            case 0: _ = try raw.ask(2, round % 2 == 0 ? 15 : 1)
            case 1: #expect(try raw.ask(3, raw.data.references[50].rawValue, UInt32(round % 41)).status == .success)
            case 2: #expect(try raw.ask(5, UInt32(round % 129)).status == .success)
            case 3: #expect(try raw.ask(7, UInt32(round % 2)).status == .success)
            default: _ = try raw.ask(2, 15)
            }
            raw.post([round % 40, (round + 1) % 40])
            frame[60] = UInt8(truncatingIfNeeded: round)
            try pair.backWire.send(frame)
            let response = try raw.received().response
            #expect(response.status == 80)
            #expect(raw.data.region.bytes(at: (Int(response.id)) * 4096, count: 80) == frame)
            if response.flags.contains(.extraInfo) {
                hashed += 1
                #expect(try raw.received().extra.type == .hash)
            } else {
                // The second page is for the next frame.
                try pair.backWire.send(frame)
                let second = try raw.received().response
                #expect(second.status == 80)
                if second.flags.contains(.extraInfo) { _ = try raw.received() }
            }
        }
        #expect(hashed > 10)
        try raw.close()
        pair.backend.stop()
    }
}
