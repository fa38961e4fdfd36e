// The pair under every memory model and IOMMU mode, with devices whose limits force bounces and splits: every byte of
// every frame arrives. And that this would notice a wrong translation.

import DMA
import FrameMaps
import LinuxSystem
@testable import NetworkBackend
import NetworkDevices
import NetworkFrontend
import Packets
import SharedMemory
import TestHosts
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(3)), .serialized)
struct NetworkMemoryTests {
    private static let sizes = [14, 60, 191, 193, 1514, 4095, 4097, 8193, 12_288]

    /// Sends frames of many sizes both ways, plain ones and those to be cut up; how many did not arrive as they were,
    /// and what the backend counted.
    private func verify(_ dma: DMAOptions, mapped: Bool) throws -> (wrong: Int, memory: DMACounters) {
        var options = NetworkBackendOptions()
        options.dma = dma
        let pair = try NetworkPair(options)
        let baseline = pair.host.usage
        var front = NetworkFrontendOptions()
        front.mapsGrants = mapped
        let frontend = try pair.connect(front)
        var wrong = 0
        // One wrong frame is enough to see that a wrong translation is noticed.
        for (seed, size) in Self.sizes.enumerated() where wrong == 0 || dma.frameError == 0 {
            let frame = plainFrame(size, seed: seed)
            try pair.frontWire.send(frame)
            if try pair.backWire.receive(milliseconds: 300)?.frame != frame { wrong += 1 }
            try pair.backWire.send(frame)
            if try pair.frontWire.receive(milliseconds: 300)?.frame != frame { wrong += 1 }
        }
        for (seed, size) in [3000, 20_000, 65_000].enumerated() where wrong == 0 || dma.frameError == 0 {
            let frame = TestFrames.tcp(payload: size, seed: seed)
            let header = TestFrames.segmented(size: 1448)
            try pair.frontWire.send(frame, header: header)
            if try pair.backWire.receive(milliseconds: 300)?.frame != frame { wrong += 1 }
            try pair.backWire.send(frame, header: header)
            if try pair.frontWire.receive(milliseconds: 300)?.frame != frame { wrong += 1 }
        }
        // Where frames go astray a side may have given the connection up by now.
        let counted = pair.backend.status.first?.queues.first?.memory
        let memory = try dma.frameError != 0 ? counted ?? DMACounters() : #require(counted)
        frontend.close()
        pair.backend.stop()
        #expect(pair.backend.log.allSatisfy { !$0.contains("mapped") || dma.frameError != 0 }, "\(pair.backend.log)")
        expectBaseline(pair.host, baseline)
        return (wrong, memory)
    }

    @Test(arguments: memoryKinds, [true, false])
    func everyKindCarriesEveryByte(_ dma: DMAOptions, _ mapped: Bool) throws {
        let (wrong, memory) = try verify(dma, mapped: mapped)
        #expect(wrong == 0)
        #expect(memory.transfers.live == 0 && memory.bounceSlotsInUse == 0)
        #expect(memory.faults == 0 && memory.unmappable == 0 && memory.unmapFailures == 0 && memory.transfers.misuses == 0)
        // On the direct map, too: whatever the device was given was mapped, and none of it is left.
        #expect(memory.transfers.maps > 0)
        if dma.iommu == nil, dma.constraints.mask == 0xFFFF_FFFF {
            // Every page of the frontend's and of ours lies beyond what the device can address.
            #expect(memory.transfers.bounces[.mask] > 0)
        }
    }

    /// A device that translates one frame off is noticed by the same run, whatever the model.
    @Test(arguments: MemoryModel.allCases, [nil, IommuMode.strict])
    func aWrongTranslationIsNoticed(_ model: MemoryModel, _ iommu: IommuMode?) throws {
        var dma = DMAOptions(model: model, iommu: iommu, constraints: DMAConstraints(mask: .max >> 1))
        dma.frameError = 1
        #expect(try verify(dma, mapped: true).wrong > 0)
    }

    /// A checksum that the frontend does not take blank is completed in pages that only the device's limits keep apart
    /// from it.
    @Test(arguments: [IommuMode?.none, .strict])
    func checksumsAreCompletedBehindAnyMemory(_ iommu: IommuMode?) throws {
        var options = NetworkBackendOptions()
        options.dma = DMAOptions(
            model: .p2m, iommu: iommu, constraints: DMAConstraints(mask: 0xFFFF_FFFF, maximumSegmentSize: 512), bouncePool: 4 << 20)
        let pair = try NetworkPair(options)
        var front = NetworkFrontendOptions()
        front.features = [.scatterGather]
        let frontend = try pair.connect(front)
        let frame = TestFrames.tcp(payload: 7000)
        try pair.backWire.send(frame, header: [1, 0, 0, 0, 0, 0, 34, 0, 16, 0])
        let received = try #require(try pair.frontWire.receive())
        #expect(try TestFrames.isWhole(received.frame))
        // The checksum apart, nothing has changed.
        expectSame(Array(received.frame[..<50]) + received.frame[52...], Array(frame[..<50]) + frame[52...])
        frontend.close()
        pair.backend.stop()
    }

    /// A bounce pool that cannot hold a frame for each queue is refused when a frontend connects, with what it would
    /// have to be.
    @Test func aPoolThatHoldsNoFrameIsRefused() throws {
        var options = NetworkBackendOptions()
        options.dma = DMAOptions(model: .vp, constraints: DMAConstraints(mask: 0xFFFF_FFFF), bouncePool: 64 << 10)
        let pair = try NetworkPair(options)
        #expect(throws: TimedOut.self) { _ = try pair.connect() }
        let log = pair.backend.log
        #expect(log.contains { $0.contains("a bounce pool of 65536 bytes for 1 queues is too small: each needs 131072") }, "\(log)")
        pair.backend.stop()
    }

    /// What is too large for the memory before the device is lost alone, counted and told of; what is not goes on.
    @Test func aFrameThatCannotBeMappedIsLostAlone() throws {
        let constraints = DMAConstraints(maximumSegmentSize: 4096, maximumSegments: 4)
        let memory = try QueueMemory(name: "test", options: DMAOptions(model: .p2m, constraints: constraints))
        let (device, wire) = try SocketNetwork.pair("test")
        var deviceQueue = MappedDeviceQueue(memory, try device.openQueue(bus: memory.dma.bus))
        let bus = try DMADevice(name: "wire").bus
        let far = try wire.openQueue(bus: bus)
        let region = try SharedRegion(anonymous: 17 * 4096)
        let segment = BusSegment(address: bus.attach(region), byteCount: 17 * 4096)
        // Three pages can be had in four segments, and five cannot without a pool.
        for (byteCount, isSent) in [(3 * 4096, true), (5 * 4096, false), (100, true)] {
            var pieces: [PagePiece] = []
            memory.bounce.append(0, byteCount, to: &pieces)
            let result = deviceQueue.send(FrameOffload(), pieces, 0..<pieces.count)
            #expect((result == .waiting) == isSent, "\(byteCount) bytes: \(result)")
            var ended: [FrameSent] = []
            deviceQueue.flush(&ended)
            #expect(ended == (isSent ? [.sent] : []))
            if isSent { #expect(far.receive(into: [segment].span) == .frame(byteCount: byteCount, FrameOffload())) }
        }
        #expect(deviceQueue.unmappable == 1 && deviceQueue.trouble?.contains("cannot be mapped") == true)
        // The same the other way: the frame that finds no place does not stand in the way of the next.
        var (large, small): ([PagePiece], [PagePiece]) = ([], [])
        memory.staging.append(0, 5 * 4096, to: &large)
        memory.staging.append(0, 4096, to: &small)
        #expect(far.send(FrameOffload(), segments: [BusSegment(address: segment.address, byteCount: 60)].span) == .waiting)
        #expect(far.send(FrameOffload(), segments: [BusSegment(address: segment.address, byteCount: 61)].span) == .waiting)
        var ended: [FrameSent] = []
        far.flush(&ended)
        #expect(ended == [.sent, .sent])
        #expect(deviceQueue.receive(into: large) == .spoilt)
        #expect(deviceQueue.receive(into: small) == .frame(byteCount: 61, FrameOffload()))
        #expect(deviceQueue.receive(into: small) == .nothing)
        #expect(deviceQueue.unmappable == 2 && memory.dma.liveMappings == 0 && memory.close() == nil)
    }

    /// A turn in which frames were lost and none moved is told of, too (it was not, and its counters stood still).
    @Test func whatIsOnlyLostIsToldOf() throws {
        var options = NetworkBackendOptions()
        // No frame's 17 pages fit four segments, and there is no pool: nothing can be received.
        options.dma = DMAOptions(model: .p2m, constraints: DMAConstraints(maximumSegmentSize: 4096, maximumSegments: 4))
        let pair = try NetworkPair(options)
        let frontend = try pair.connect()
        try pair.backWire.send(plainFrame(600))
        #expect(eventually { pair.backend.log.contains { $0.contains("a frame cannot be mapped") } }, "\(pair.backend.log)")
        #expect(
            eventually { pair.backend.status.first?.queues.first?.memory.unmappable == 1 && pair.backend.total.receiveDropped == 1 }
        )
        frontend.close()
        pair.backend.stop()
    }
}
