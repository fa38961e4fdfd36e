// What a frame from the device is, and its answers on the ring.

import DMA
import LinuxSystem
import NetworkProtocol
import Packets
import SharedMemory

extension GuestReceive {
    /// One frame from the device into `pieces`.
    mutating func receive() -> (byteCount: Int, FrameOffload)? {
        switch deviceQueue.receive(into: pieces) {
        case .frame(let byteCount, let offload):
            turnBytes &+= UInt64(byteCount)
            return (byteCount, offload)
        case .nothing: deviceIsReady = false
        case .spoilt:
            _ = drop(.spoilt)
            grow()
        case .failed:
            deviceIsReady = false
            deviceIsGone = true
        }
        return nil
    }

    /// Looks at the frame just received into `pieces`, completes a checksum that the frontend does not take; nil if the
    /// frame is not for it.
    mutating func describe(_ byteCount: Int, _ offload: FrameOffload, slot: Int) -> Frame? {
        var frame = Frame(slot: slot, byteCount: byteCount, marks: FrameMarks(), hash: nil)
        frame.marks.isValidated = offload.isValidated
        let spreads = interface.scaling.isActive
        let isPlain = offload.checksum == nil && offload.segmentation == nil && !spreads
        // What is staged has room for any frame; what has one slot has not.
        let pages = slot >= 0 && interface.features.contains(.scatterGather) ? QueueMemory.pagesPerFrame : dataSlots
        let room = pages * Self.page
        guard byteCount >= NetworkLimits.headerSize, byteCount <= min(room, NetworkLimits.maximumPacketSize) else {
            return drop(byteCount < NetworkLimits.headerSize ? .spoilt : .tooLong)
        }
        let filters = interface.multicast.filters
        if isPlain && !filters { return frame }
        // The page may be the frontend's: what is decided on is a copy.
        let head = QueueMemory.stagedFrames * QueueMemory.pagesPerFrame * Self.page
        let staging = staging.region
        let headCount = FrameBytes.copyHead(
            pieces.span, min(byteCount, FrameHeaders.firstLook), in: dma, to: staging, at: head)
        if filters, !interface.multicast.wants(MACAddress(littleEndian: staging.load(head))) { return drop(.unwanted) }
        if isPlain { return frame }
        var isCut = false
        var headers = FrameHeaders(in: staging, at: head, count: headCount, isCut: &isCut)
        if isCut, headCount < byteCount {
            let count = FrameBytes.copyHead(pieces.span, byteCount, in: dma, to: staging, at: head)
            headers = FrameHeaders(in: staging, at: head, count: count)
        }
        guard let (marks, unfinished) = offload.marks(for: interface.abilities, headers) else { return drop(.unfit) }
        if let unfinished, !FrameBytes.complete(unfinished, pieces.span, byteCount: byteCount, in: dma) { return drop(.unfit) }
        frame.marks = marks
        if spreads, let headers {
            let scaling = interface.scaling
            frame.hash = scaling.toeplitz.hash(headers, in: staging, at: head, types: scaling.types)
            if let hash = frame.hash, interface.queueCount > 1 {
                let target = scaling.queue(hash.value, of: interface.queueCount)
                if target != index, slot >= 0 { return steer(frame, to: target) }
            }
        }
        return frame
    }

    mutating func drop(_ reason: DropReason) -> Frame? {
        statistics.receiveDropped &+= 1
        interface.receiveDrops.add(reason)
        return nil
    }

    /// Puts a frame, whose bytes are in place, before the frontend.
    mutating func answer(_ frame: Frame) {
        let plan = frame.plan
        var flags: ReceiveFlags = []
        if frame.marks.isBlank { flags.insert(.checksumBlank) }
        if frame.marks.isValidated { flags.insert(.dataValidated) }
        if plan.extraSlots > 0 { flags.insert(.extraInfo) }
        if plan.dataSlots > 1 { flags.insert(.moreData) }
        push(0, flags, min(frame.byteCount, Self.page))
        if let segmentation = frame.marks.segmentation {
            var extra = ExtraInfo(segmenting: segmentation.type, size: segmentation.size)
            extra.hasMore = frame.hash != nil
            respond(1, ReceiveSlot(extra))
        }
        if let hash = frame.hash {
            respond(plan.extraSlots, ReceiveSlot(ExtraInfo(hash: hash.value, over: hash.over, .toeplitz)))
        }
        var left = frame.byteCount - Self.page
        var slot = 1 + plan.extraSlots
        while left > 0 {
            push(slot, left > Self.page ? .moreData : [], min(left, Self.page))
            left -= Self.page
            slot += 1
        }
        if let trace { tell(trace, frame) }
        dropPosted(plan.slotCount)
        statistics.received &+= 1
        statistics.receivedBytes &+= UInt64(frame.byteCount)
    }

    mutating func push(_ slot: Int, _ flags: ReceiveFlags, _ byteCount: Int) {
        let request = postedPage(slot).request
        respond(slot, ReceiveSlot(ReceiveResponse(id: request.id, flags: flags, status: Int16(byteCount))))
    }

    /// Puts one slot on the ring; `index` is its place among the posted ones.
    @inline(__always)
    mutating func respond(_ index: Int, _ slot: ReceiveSlot) {
        ring.push(slot)
        if let trace { trace.answered(slot, page: postedPage(index).request.reference) }
    }

    func tell(_ trace: QueueTrace, _ frame: Frame) {
        let (plan, base) = (frame.plan, frame.slot * QueueMemory.pagesPerFrame * Self.page)
        for page in 0..<plan.dataSlots {
            let count = min(Self.page, frame.byteCount - page * Self.page)
            if frame.slot >= 0 {
                trace.append(staging.region, base + page * Self.page, count)
            } else if let grant = mappings.grant(postedPage(page == 0 ? 0 : page + plan.extraSlots).request.reference) {
                trace.append(grant.region, grant.offset, count)
            }
        }
        trace.received(.okay, byteCount: frame.byteCount)
    }

    /// A page of the frame could not be written: an error in every slot, so that the frontend drops it whole
    /// (attacks.md B27).
    mutating func refuse(_ frame: Frame) {
        let count = frame.plan.slotCount
        for slot in 0..<count {
            let request = postedPage(slot).request
            respond(
                slot,
                ReceiveSlot(
                    ReceiveResponse(id: request.id, flags: slot + 1 < count ? .moreData : [], status: NetworkStatus.error.rawValue))
            )
        }
        if let trace { trace.received(.error, byteCount: frame.byteCount) }
        dropPosted(count)
        _ = drop(.unreachable)
    }
}
