// Frames by way of private memory: where the frontend's pages are not mapped and the hypervisor copies into them, and
// where a frame may turn out to be another queue's.

import DMA
import DriverRuntime
import Hypervisor
import LinuxSystem
import SharedMemory

extension GuestReceive {
    /// Takes a frame into `staging`; true if the device had one. A frame without enough pages stays there.
    mutating func receiveStaged() -> Bool {
        let slot = freeStagingSlot
        let offset = slot * QueueMemory.pagesPerFrame * Self.page
        pieces.removeAll(keepingCapacity: true)
        staging.append(offset, QueueMemory.pagesPerFrame * Self.page, to: &pieces)
        guard let (count, offload) = receive() else { return false }
        guard let frame = describe(count, offload, slot: slot) else { return true }
        staged.append(frame)
        if reservedSlots > postedCount {
            takePosted(reservedSlots)
            if reservedSlots > postedCount {
                holdsFrame = true
                isStarved = true
            }
        }
        return true
    }

    var freeStagingSlot: Int {
        // A held frame keeps its place, which is slot 0 after it was compacted by `deliverStaged`.
        staged.count
    }

    /// Slots that all staged frames need.
    var reservedSlots: Int {
        var total = 0
        for frame in staged { total += frame.plan.slotCount }
        return total
    }

    mutating func placeHeld() {
        takePosted(reservedSlots)
        if reservedSlots > postedCount {
            isStarved = true
        } else {
            holdsFrame = false
        }
    }

    /// Copies staged frames into the frontend's pages and answers.
    mutating func deliverStaged() {
        let count = staged.count - (holdsFrame ? 1 : 0)
        if count > 0 {
            var slot = 0
            for index in 0..<count { slot = scheduleCopies(staged[index], index, from: slot) }
            var failed = Set<Int>()
            if !copies.isEmpty {
                let statuses = (try? hypervisor.copyGrants(copies)) ?? []
                for index in copyOwners.indices where index >= statuses.count || statuses[index] != .okay {
                    failed.insert(copyOwners[index])
                }
                copies.removeAll(keepingCapacity: true)
                copyOwners.removeAll(keepingCapacity: true)
            }
            for index in 0..<count {
                if failed.contains(index) { refuse(staged[index]) } else { answer(staged[index]) }
            }
        }
        guard holdsFrame, var frame = staged.last else { return staged.removeAll(keepingCapacity: true) }
        // To the first place, where the next look finds it.
        if frame.slot != 0 {
            staging.region.copy(
                from: staging.region, frame.slot * QueueMemory.pagesPerFrame * Self.page, count: frame.byteCount, to: 0)
            frame.slot = 0
        }
        staged = [frame]
    }

    /// Copies what goes into mapped pages, lists what the hypervisor must copy; the first slot after the frame's.
    mutating func scheduleCopies(_ frame: Frame, _ owner: Int, from first: Int) -> Int {
        let plan = frame.plan
        let base = frame.slot * QueueMemory.pagesPerFrame * Self.page
        for place in 0..<plan.dataSlots {
            let target = postedPage(first + (place == 0 ? 0 : place + plan.extraSlots))
            let count = min(Self.page, frame.byteCount - place * Self.page)
            if let page = target.page {
                let piece = PagePiece(pfn: page, offset: 0, byteCount: UInt32(count))
                _ = dma.write(piece, from: staging.region, at: base + place * Self.page)
            } else {
                copies.append(
                    GrantCopy(
                        source: .local(staging.region, offset: base + place * Self.page),
                        destination: .grant(target.request.reference, of: frontend, offset: 0), byteCount: count))
                copyOwners.append(owner)
            }
        }
        statistics.copiedFrames &+= 1
        return first + plan.slotCount
    }

    /// Gives a staged frame to the queue that the frontend's mapping names.
    mutating func steer(_ frame: Frame, to target: Int) -> Frame? {
        let offset = frame.slot * QueueMemory.pagesPerFrame * Self.page
        return interface.steer(frame, staging.region, offset, target) ? nil : drop(.crowded)
    }

    /// Takes a frame that another queue's device gave; false if there is no room.
    mutating func accept(_ frame: Frame, from region: SharedRegion, _ offset: Int) -> Bool {
        guard let place = placeForAnother() else { return false }
        staging.region.copy(from: region, offset, count: frame.byteCount, to: place)
        appendAnother(frame)
        return true
    }

    /// The same from another thread, whose copy it is.
    mutating func accept(_ frame: Frame, _ bytes: [UInt8]) -> Bool {
        guard let place = placeForAnother() else { return false }
        staging.region.write(bytes, at: place)
        appendAnother(frame)
        return true
    }

    /// Where the bytes of another queue's frame go; nil if there is no room.
    private mutating func placeForAnother() -> Int? {
        guard isOpen, !holdsFrame, !isStalled else { return nil }
        if staged.count == QueueMemory.stagedFrames { deliverStaged() }
        return freeStagingSlot * QueueMemory.pagesPerFrame * Self.page
    }

    private mutating func appendAnother(_ frame: Frame) {
        var own = frame
        own.slot = freeStagingSlot
        staged.append(own)
        takePosted(reservedSlots)
        if reservedSlots > postedCount {
            holdsFrame = true
            isStarved = true
            starvedSince = time.nanoseconds
        }
    }

    /// Nobody posts pages: what the device has is lost.
    mutating func throwAway() -> Int {
        var gone = 0
        pieces.removeAll(keepingCapacity: true)
        staging.append(0, QueueMemory.pagesPerFrame * Self.page, to: &pieces)
        while gone < TurnLimits.frames, receive() != nil {
            gone += 1
            statistics.receiveExpired &+= 1
            _ = drop(.expired)
        }
        return gone
    }
}
