// A driver whose addresses are grants, and a disk that serves it: two domains of one host, no socket between them.

import BlockDevices
import Foundation
import Hypervisor
import HypervisorRules
import InProcess
import LinuxSystem
import Loopback
import Reactor
import SharedMemory
import TestSupport
import Testing
import VhostUser
import VirtioBlock
import VirtioGrants
import VirtioRing
import VirtioWire
import XenTypes

/// Where the two domains are.
enum HostKind: CaseIterable, Sendable { case inProcess, loopback }

/// A host with any number of domains.
final class GrantHost {
    private let inProcess: InProcessHost?
    private let loopback: (host: LoopbackHost, control: LoopbackControl, directory: String)?

    init(_ kind: HostKind, limits: HypervisorLimits = HypervisorLimits()) throws {
        guard kind == .loopback else {
            (inProcess, loopback) = (InProcessHost(limits: limits, time: .system), nil)
            return
        }
        let directory = NSTemporaryDirectory() + "causeway-\(UUID().uuidString.prefix(8))"
        let host = try LoopbackHost(runDirectory: directory, limits: limits, time: .system)
        try host.start()
        (inProcess, loopback) = (nil, (host, try LoopbackControl(runDirectory: directory, time: .system), directory))
    }

    deinit {
        loopback?.host.stop()
        if let loopback { try? FileManager.default.removeItem(atPath: loopback.directory) }
    }

    func domain(_ number: UInt16) throws -> any Hypervisor {
        if let inProcess { return inProcess.domain(number) }
        guard let loopback else { throw TimedOut("no host") }
        if try !loopback.control.domains().contains(DomainID(number)) { _ = try loopback.control.createDomain(DomainID(number)) }
        return try LoopbackHypervisor(runDirectory: loopback.directory, domain: DomainID(number), time: .system)
    }

    /// Pages that anybody has mapped.
    var mappings: Int {
        get throws { try inProcess?.usage.mappings ?? loopback?.control.usage().mappings ?? -1 }
    }
}

/// A driver, its pages and its ring; and a disk of another domain.
final class GrantedDriver {
    static let features: VirtioFeatures = [.version1, VirtioFeatures.Block.flush, .indirectDescriptors, .accessPlatform]
    let host: GrantHost
    let front: any Hypervisor
    let back: any Hypervisor
    let pages: any OfferedPages
    let reactor: Reactor
    let disk: VirtioDisk
    let log = LineCollector()
    private var ring: SplitDriverRing
    private var granted: GrantedRing?
    private let kick: EventCounter
    private let call: EventCounter
    /// Mappings that the ring itself has.
    let ofRing: Int

    /// Where the ring's tables and a request's data begin, in pages.
    static let (tables, data) = (4, 16)

    init(_ kind: HostKind, _ device: any BlockDevice, usesTables: Bool = false, limit: Int = 8192) throws {
        host = try GrantHost(kind)
        (front, back) = (try host.domain(1), try host.domain(2))
        pages = try front.offerPages(128, to: back.domain, access: .readWrite)
        for (one, next) in zip(pages.references, pages.references.dropFirst()) {
            try #require(next.rawValue == one.rawValue + 1, "references that do not follow each other")
        }
        let areas = VirtqueueAreas(in: pages.region, size: 16, features: Self.features)
        let first = pages.references[0]
        func address(_ offset: Int) -> UInt64 { GrantAddress.address(first) + UInt64(offset) }
        let place = Self.tables * 4096
        let tables =
            usesTables ? DriverTables(RingArea(pages.region, at: place), at: address(place), entries: 8, ringSize: 16) : nil
        ring = SplitDriverRing(initialising: areas, features: Self.features, tables: tables)
        (kick, call) = (try EventCounter(), try EventCounter())
        reactor = try Reactor(name: "granted", time: .system)
        try reactor.start()
        let log = log
        disk = VirtioDisk(device, on: [reactor], queues: 1, identity: "granted") { log.add($0) }
        let (back, granter) = (back, front.domain)
        let granted = try GrantedRing(
            size: 16, descriptors: address(areas.descriptors.offset), driver: address(areas.driver.offset),
            device: address(areas.device.offset), features: Self.features, on: back, of: granter)
        self.granted = granted
        ofRing = try host.mappings
        let plan = VhostRingPlan(
            granted.areas, features: Self.features, base: 0, kick: kick.descriptor, call: call.descriptor
        ) { GrantedMemory(back, of: granter, limit: limit) }
        _ = try disk.perform(.start(ring: 0, plan))
    }

    /// Stops the ring; what is mapped then.
    func stop() throws -> Int {
        _ = try disk.perform(.stop(ring: 0))
        disk.disconnected()
        granted = nil
        reactor.stop()
        return try host.mappings
    }

    func run(_ offset: Int, _ count: Int, in offer: (any OfferedPages)? = nil) -> GuestRun {
        let offer = offer ?? pages
        return GuestRun(
            address: GrantAddress.address(offer.references[offset / 4096], offset: offset % 4096), byteCount: UInt32(count))
    }

    /// A request at a page of the data: its header and status there, its data in runs of the caller's.
    func chain(_ kind: BlockRequestKind, page: Int, sector: UInt64 = 0, give: [GuestRun] = [], room: [GuestRun] = [])
        -> DescriptorChain
    {
        let place = (Self.data + page) * 4096
        BlockRequestHeader(kind, sector: sector).store(pages.region, at: place)
        pages.region.store(UInt8(0xFF), at: place + 16)
        var chain = DescriptorChain()
        chain.appendReadable(run(place, 16))
        for run in give { chain.appendReadable(run) }
        for run in room { chain.appendWritable(run) }
        chain.appendWritable(run(place + 16, 1))
        return chain
    }

    func status(page: Int) -> UInt8 { pages.region.load((Self.data + page) * 4096 + 16) }

    @discardableResult
    func offer(_ chain: DescriptorChain) throws -> ChainTicket {
        let offered = ring.offer(chain)
        let ticket = try #require(offered)
        if ring.publish() { kick.ring() }
        return ticket
    }

    func reap() throws -> UsedChain {
        var used: UsedChain?
        _ = try eventually {
            used = try ring.reap()
            return used != nil
        }
        return try #require(used, "no answer: \(log.all)")
    }

    /// Does a request: what was written. What it had mapped is not mapped any more when its answer is there.
    func perform(_ chain: DescriptorChain) throws -> UInt32 {
        try offer(chain)
        let used = try reap()
        #expect(try host.mappings == ofRing, "mapped beyond the answer")
        return used.written
    }
}
