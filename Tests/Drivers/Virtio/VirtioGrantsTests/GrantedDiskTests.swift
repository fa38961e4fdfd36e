// A disk for a driver that grants what it gives: data right, everything unmapped, and what a hostile one can do.

import BlockDevices
import Hypervisor
import LinuxSystem
import ScriptedDevices
import SharedMemory
import TestSupport
import Testing
import VirtioBlock
import VirtioRing
import VirtioWire
import XenTypes

@testable import VirtioGrants

@Suite("virtio over grants") struct GrantedDiskTests {
    private func pattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) } }

    private func file() throws -> (any BlockDevice, TemporaryDirectory) {
        let scratch = try TemporaryDirectory()
        let path = try scratch.file(byteCount: 1 << 20)
        return (try openBlockDevice(target: path, options: BlockDeviceOptions(), time: .system), scratch)
    }

    @Test(
        "what is written is read, of pages that are mapped for the request and no longer", arguments: HostKind.allCases,
        [false, true])
    func roundTrip(kind: HostKind, usesTables: Bool) throws {
        let (device, scratch) = try file()
        let driver = try GrantedDriver(kind, device, usesTables: usesTables)
        let (from, to) = ((GrantedDriver.data + 20) * 4096, (GrantedDriver.data + 60) * 4096)
        for (offset, count) in [(0, 512), (100, 4096), (4000, 20480)] {
            let bytes = pattern(count)
            driver.pages.region.write(bytes, at: from + offset)
            #expect(try driver.perform(driver.chain(.write, page: 0, sector: 8, give: [driver.run(from + offset, count)])) == 1)
            #expect(driver.status(page: 0) == 0)
            let halves = [driver.run(to, count / 2), driver.run(to + 8192 * 3 + 100, count / 2)]
            #expect(try driver.perform(driver.chain(.read, page: 1, sector: 8, room: halves)) == UInt32(count) + 1)
            #expect(driver.status(page: 1) == 0)
            #expect(driver.pages.region.bytes(at: to, count: count / 2) == Array(bytes.prefix(count / 2)))
            #expect(driver.pages.region.bytes(at: to + 8192 * 3 + 100, count: count / 2) == Array(bytes.suffix(count / 2)))
        }
        #expect(try driver.stop() == 0)
        #expect(driver.pages.withdraw())
        withExtendedLifetime(scratch) {}
    }

    @Test(
        "VU54: grants that are not there, are another domain's, may only be read, or have ended cost their own request",
        arguments: HostKind.allCases)
    func refused(kind: HostKind) throws {
        let (device, scratch) = try file()
        let driver = try GrantedDriver(kind, device)
        let stranger = try driver.host.domain(3)
        let foreign = try driver.front.offerPages(2, to: stranger.domain, access: .readWrite)
        let readable = try driver.front.offerPages(2, to: driver.back.domain, access: .readOnly)
        let ended = try driver.front.offerPages(2, to: driver.back.domain, access: .readWrite)
        #expect(ended.withdraw())
        let last = GuestRun(address: GrantAddress.address(GrantReference(.max)), byteCount: 8192)
        // Right but for the mark.
        let place = (GrantedDriver.data + 9) * 4096
        let unmarked = GuestRun(address: driver.run(place, 512).address & ~GrantAddress.mark, byteCount: 512)
        let bad: [[GuestRun]] = [
            [GuestRun(address: GrantAddress.address(GrantReference(9_999_999)), byteCount: 512)], [driver.run(0, 512, in: foreign)],
            [driver.run(0, 512, in: readable)], [driver.run(0, 512, in: ended)], [last], [unmarked],
            [driver.run((GrantedDriver.data + 9) * 4096, 512), driver.run(4096, 512, in: foreign)],
        ]
        for runs in bad {
            #expect(try driver.perform(driver.chain(.read, page: 0, room: runs)) == 1)
            #expect(driver.status(page: 0) == 1)
            // And the next one is served.
            #expect(
                try driver.perform(driver.chain(.read, page: 1, room: [driver.run((GrantedDriver.data + 9) * 4096, 512)])) == 513)
        }
        // What may be read is read.
        #expect(try driver.perform(driver.chain(.write, page: 0, give: [driver.run(0, 512, in: readable)])) == 1)
        #expect(driver.status(page: 0) == 0)
        // Nowhere to say it: given back.
        var nowhere = DescriptorChain()
        nowhere.appendWritable(driver.run(0, 512, in: foreign))
        #expect(try driver.perform(nowhere) == 0)
        #expect(try driver.stop() == 0)
        withExtendedLifetime(scratch) {}
    }

    @Test("VU55: a request of more pages than there may be is refused; of others' it waits", arguments: HostKind.allCases)
    func limits(kind: HostKind) throws {
        let disk = ScriptedDisk()
        let driver = try GrantedDriver(kind, disk, limit: 12)
        let place = (GrantedDriver.data + 20) * 4096
        #expect(try driver.perform(driver.chain(.read, page: 0, room: [driver.run(place, 11 * 4096)])) == 1)
        #expect(driver.status(page: 0) == 1)
        // Ten pages each: the second one waits for the first.
        for page in 1...2 { try driver.offer(driver.chain(.read, page: page, room: [driver.run(place + page * 65536, 8 * 4096)])) }
        try #require(disk.wait(for: 1))
        sleepMilliseconds(50)
        #expect(disk.operations.count == 1)
        #expect(try driver.host.mappings == driver.ofRing + 10)
        disk.end(0)
        #expect(try driver.reap().written == 8 * 4096 + 1)
        try #require(disk.wait(for: 2))
        disk.end(1)
        #expect(try driver.reap().written == 8 * 4096 + 1)
        #expect(try driver.host.mappings == driver.ofRing)
        #expect(try driver.stop() == 0)
    }

    @Test("requests that are left with a disk that is away leave nothing mapped", arguments: HostKind.allCases)
    func left(kind: HostKind) throws {
        let disk = ScriptedDisk()
        disk.isAway = true
        let driver = try GrantedDriver(kind, disk)
        try driver.offer(driver.chain(.read, page: 0, room: [driver.run((GrantedDriver.data + 20) * 4096, 4096)]))
        try #require(disk.wait(for: 1))
        #expect(try driver.stop() == 0)
    }

    @Test("VU56: a ring that is no grant, or another's, is not mapped", arguments: HostKind.allCases)
    func rings(kind: HostKind) throws {
        let host = try GrantHost(kind)
        let (front, back) = (try host.domain(1), try host.domain(2))
        let pages = try front.offerPages(4, to: back.domain, access: .readOnly)
        let good = try front.offerPages(4, to: back.domain, access: .readWrite)
        let cases: [UInt64] = [
            0x1000, GrantAddress.address(pages.references[0]), GrantAddress.address(GrantReference(77_777)), .max - 0xFFF,
            GrantAddress.address(good.references[0]) & ~GrantAddress.mark,
        ]
        for address in cases {
            #expect(throws: GrantedRingError.self) {
                _ = try GrantedRing(
                    size: 16, descriptors: address, driver: address &+ 512, device: address &+ 1024, features: .version1, on: back,
                    of: front.domain)
            }
            #expect(try host.mappings == 0)
        }
    }
}
