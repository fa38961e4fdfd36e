// A queue's device, as one direction uses it: each frame's pages are mapped for the call in which the device moves the
// frame, or the two if it lets the frame wait, and unmapped when that returns. What the device is given are bus
// segments, as its limits and its IOMMU have them.

import DMA
import LinuxSystem
import NetworkDevices
import Packets

/// The device queue behind the mappings.
struct MappedDeviceQueue {
    let dma: DMADevice
    var device: any NetworkDeviceQueue
    private var segments: [BusSegment] = []
    /// Mappings of frames that wait in the device.
    private var waiting: [DMAHandle] = []
    /// Frames that could not be mapped for the device, and are lost.
    private(set) var unmappable: UInt64 = 0
    /// Why the last of them could not be mapped, or a mapping not be ended: to be logged.
    var trouble: String?

    init(_ memory: QueueMemory, _ device: any NetworkDeviceQueue) {
        dma = memory.dma
        self.device = device
        segments.reserveCapacity(QueueMemory.pagesPerFrame + 1)
    }

    /// Sends the frame that lies in those of `pieces` that `range` names, as the device's `send` does.
    @inline(__always)
    mutating func send(_ offload: FrameOffload, _ pieces: [PagePiece], _ range: Range<Int>) -> FrameSent {
        let transfer: PassingTransfer
        do throws(DMAError) { transfer = try begin(pieces.span.extracting(range), .toDevice) } catch {
            // Those that wait may have what this one wants.
            if !waiting.isEmpty { return .full }
            lose(error)
            return .failed(.noMemory)
        }
        let result = device.send(offload, segments: segments.span)
        if result == .waiting { waiting.append(dma.keep(transfer)) } else { end(transfer, written: .max) }
        return result
    }

    /// Sends the frames that wait, as the device's `flush` does.
    mutating func flush(_ ended: inout [FrameSent]) {
        device.flush(&ended)
        for handle in waiting { unmap(handle) }
        waiting.removeAll(keepingCapacity: true)
    }

    /// Takes a frame into `pieces`, from the first on. Where these cannot be mapped the frame is lost, so that it does
    /// not stand in the way.
    @inline(__always)
    mutating func receive(into pieces: [PagePiece]) -> FrameReceived {
        let transfer: PassingTransfer
        do throws(DMAError) { transfer = try begin(pieces.span, .fromDevice) } catch { return discard(error) }
        let result = device.receive(into: segments.span)
        var written = 0
        if case .frame(let byteCount, _) = result { written = byteCount }
        end(transfer, written: written)
        return result
    }

    @inline(__always)
    private mutating func begin(_ pieces: Span<PagePiece>, _ direction: DMADirection) throws(DMAError) -> PassingTransfer {
        segments.removeAll(keepingCapacity: true)
        return try dma.begin(pieces, direction, into: &segments)
    }

    @inline(__always)
    private mutating func end(_ transfer: consuming PassingTransfer, written: Int) {
        do throws(DMAError) { try dma.end(transfer, written: written) } catch { remark(error) }
    }

    /// Takes the device's next frame, if it has one, and lets it go.
    private mutating func discard(_ error: DMAError) -> FrameReceived {
        segments.removeAll(keepingCapacity: true)
        switch device.receive(into: segments.span) {
        case .frame, .spoilt:
            lose(error)
            return .spoilt
        case .nothing: return .nothing
        case .failed(let error): return .failed(error)
        }
    }

    private mutating func lose(_ error: DMAError) {
        unmappable &+= 1
        if trouble == nil { trouble = "a frame cannot be mapped: \(error)" }
    }

    private mutating func unmap(_ handle: DMAHandle) {
        do throws(DMAError) { try dma.unmap(handle, .toDevice) } catch { remark(error) }
    }

    /// Fails only for a mapping that is not ours, which this file rules out: worth a line if it ever happens.
    private mutating func remark(_ error: DMAError) {
        if trouble == nil { trouble = "a frame's mapping cannot be ended: \(error)" }
    }
}
