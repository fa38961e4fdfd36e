// A thousand disks of twenty guests on one backend, which come and go at once.

import BlockBackend
import BlockDevices
import BlockProtocol
import DriverRuntime
import Foundation
import Hypervisor
import LinuxSystem
import ScriptedDevices
import SharedRing
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenBus
import XenStore
import XenTypes

@Suite(.serialized, .timeLimit(.minutes(5))) struct ManyDevicesTests {
    /// All connect, each answers, all leave; and a device costs about the same whether there are many or a thousand.
    @Test(.inProcess("descriptors of a thousand devices, all in one process"))
    func L17_aThousandDevicesCostAThousandTimesWhatOneDoes() throws {
        // Made once: what a process does the first time.
        _ = try cost(of: 50)
        let few = try cost(of: 200), many = try cost(of: 1000)
        #expect(many < 2 * few, "\(few) µs of a processor for each of 200, \(many) for each of 1000")
    }

    /// Processor time that each of `count` devices takes from its coming to its end, in microseconds.
    private func cost(of count: Int) throws -> Int {
        let host = TestHost(time: .system)
        let store = try host.store.connectInProcess(domain: .zero)
        defer { store.close() }
        let backend = try RunningBackend(host, opener: { _ throws(DeviceOpenFailure) in ScriptedDisk { _ in .done } })
        let before = host.usage
        let guests = try (0..<count / 50).map { try Guest(host, store, UInt16(1 + $0)) }
        let begun = Self.processorMicroseconds
        for guest in guests { try guest.attach() }
        for guest in guests { try guest.wait(for: .initWait) }
        for guest in guests { try guest.publish() }
        for guest in guests { try guest.wait(for: .connected) }
        for guest in guests { try guest.ask() }
        #expect(backend.service.status.count == count)
        for guest in guests { try guest.leave() }
        for guest in guests { try guest.wait(for: .closed) }
        let took = Self.processorMicroseconds - begun
        for guest in guests { guest.end() }
        #expect(eventually(10_000) { host.usage.mappings == before.mappings && host.usage.ports == 0 })
        backend.stop()
        return took / count
    }

    private static var processorMicroseconds: Int {
        var now = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now)
        return now.tv_sec * 1_000_000 + now.tv_nsec / 1000
    }
}

/// A guest with fifty disks, all of whose rings are in one run.
private final class Guest {
    private let hypervisor: TestHypervisor
    private let store: StoreClient
    private let toolstack: DeviceDirectories
    private let rings: any OfferedPages
    private var channels: [any EventChannel] = []
    private var paths: [DevicePaths] = []
    private static let disks = 50

    init(_ host: TestHost, _ toolstack: StoreClient, _ number: UInt16) throws {
        hypervisor = host.domain(number)
        store = try hypervisor.connectStore()
        self.toolstack = DeviceDirectories(store: toolstack)
        rings = try hypervisor.offerPages(Self.disks, to: .zero, access: .readWrite)
    }

    func attach() throws {
        let letters = Array("abcdefghijklmnopqrstuvwxyz")
        for index in 0..<Self.disks {
            let name = "xvd" + (index < 26 ? "" : "a") + String(letters[index % 26])
            let disk = try DiskSpecification(parsing: "/nowhere,raw,\(name),w")
            paths.append(try toolstack.create(.init(disk, frontend: hypervisor.domain)))
        }
    }

    func wait(for state: XenbusState) throws {
        for path in paths {
            var seen = XenbusState.unknown
            let isThere = try eventually(60_000) {
                seen = try store.state(of: path.backendPath)
                return seen == state
            }
            try #require(isThere, "\(path.backendPath) is in \(seen), not in \(state)")
        }
    }

    func publish() throws {
        for (index, path) in paths.enumerated() {
            let channel = try hypervisor.allocateChannel(for: .zero)
            channels.append(channel)
            rings.region.storeRelaxed(UInt32(1), at: index * 4096 + RingHeader.requestEvent)
            rings.region.storeRelaxed(UInt32(1), at: index * 4096 + RingHeader.responseEvent)
            let keys = BlockRequestKeys(
                abi: BlockABI.native.node, persistent: false,
                queues: [QueueKeys(ring: [rings.references[index]], port: channel.port)])
            try store.atomically { access throws(XenbusError) in
                try keys.write(to: access, at: path.frontendPath)
                try access.put(path.frontendPath + "/state", XenbusState.initialised.rawValue)
            }
        }
    }

    /// A flush on each disk.
    func ask() throws {
        for (index, path) in paths.enumerated() {
            try store.write(path.frontendPath + "/state", "4")
            BlockRing(.native).storeRequest(BlockRequest(.flush, id: UInt64(index)), rings.region, index * 4096 + 64)
            rings.region.storeReleasing(UInt32(1), at: index * 4096 + RingHeader.requestProduced)
            channels[index].notify()
        }
        for index in paths.indices {
            let isAnswered = eventually(10_000) {
                rings.region.loadAcquiring(index * 4096 + RingHeader.responseProduced) == 1
            }
            try #require(isAnswered, "\(paths[index].backendPath)")
        }
    }

    func leave() throws { for path in paths { try store.write(path.frontendPath + "/state", "6") } }

    func end() {
        for channel in channels { channel.close() }
        rings.withdraw()
        store.close()
    }
}
