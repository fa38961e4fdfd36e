// One frame from the device to the driver, by either way.

import DMA
import NetworkDevices
import Packets
import VirtioRing
import VirtioWire

extension VirtioReceive where Ring: ~Copyable {
    /// Takes chains until they have room for so many bytes, or there are no more.
    @inline(__always)
    mutating func takeChains(_ wanted: Int) {
        guard room < wanted, fault == nil else { return }
        do throws(VirtqueueError) {
            while room < wanted,
                try translated == nil ? ring.take(into: &chain, from: memory.map) == .chain : takeTranslated()
            {
                breach = wrongWithChain
                // Kept all the same: what is not answered is given back, in order, when the ring stops.
                keep()
                if breach != nil { return }
            }
        } catch {
            // The ring says so for ever.
        }
    }

    /// The next chain of a driver with an IOMMU, if all that it names is known.
    @inline(never)
    private mutating func takeTranslated() throws(VirtqueueError) -> Bool {
        guard let translated else { return false }
        let taken = try ring.take(into: &chain, from: translated)
        isParked = taken == .later
        return taken == .chain
    }

    @inline(never)
    private func release(_ ticket: ChainTicket) { translated?.release(ticket) }

    private var wrongWithChain: ReceiveFault? {
        if chain.readableCount > 0 { return .readableMemory }
        if chain.writableBytes < UInt64(NetworkHeader.byteCount) { return .noRoomForHeader(chain.writableBytes) }
        return chain.count > VirtioFrameRules.mostPieces ? .tooManyPieces(chain.count) : nil
    }

    /// Keeps the chain in hand until its answer.
    private mutating func keep() {
        let before = segments.count
        for index in 0..<chain.count {
            runs.append(chain[index])
            // What a chain names is in memory, as it was when it was taken: just now.
            if !memory.append(chain[index], to: &segments) { breach = .memoryGone }
        }
        // No frame needs more than a chain of this many bytes has.
        let byteCount = Int(min(chain.writableBytes, 1 << 24))
        chains.append(
            Posted(ticket: chain.ticket, byteCount: byteCount, runCount: chain.count, segmentCount: segments.count - before))
        room += byteCount
    }

    /// Forgets the oldest chains.
    mutating func removeChains(_ count: Int) {
        for _ in 0..<count {
            let first = chains[firstChain]
            room -= first.byteCount
            firstRun += first.runCount
            firstSegment += first.segmentCount
            firstChain += 1
        }
        // Moved to the front now and then, and not at each frame.
        guard firstChain == chains.count || firstChain >= 256 else { return }
        chains.removeFirst(firstChain)
        runs.removeFirst(firstRun)
        segments.removeFirst(firstSegment)
        (firstChain, firstRun, firstSegment) = (0, 0, 0)
    }

    /// Finds the chains' memory in another table.
    mutating func lookUpAgain() {
        segments.removeAll(keepingCapacity: true)
        firstSegment = 0
        var run = firstRun
        for index in firstChain..<chains.count {
            let before = segments.count
            for _ in 0..<chains[index].runCount {
                if !memory.append(runs[run], to: &segments) { breach = .memoryGone }
                run += 1
            }
            chains[index].segmentCount = segments.count - before
        }
    }

    /// Lays `frame` out: so many bytes at most of the chains that a frame may lie in, behind the header.
    @inline(__always)
    private mutating func layOut(_ byteCount: Int) {
        frame.removeAll(keepingCapacity: true)
        var skip = UInt32(NetworkHeader.byteCount)
        var left = byteCount - NetworkHeader.byteCount
        let last = rules.isMergeable ? segments.count : firstSegment + chains[firstChain].segmentCount
        for index in firstSegment..<last where left > 0 {
            var segment = segments[index]
            guard skip < segment.byteCount else {
                skip &-= segment.byteCount
                continue
            }
            guard let address = segment.address.advanced(by: UInt64(skip)) else { return }
            segment.address = address
            segment.byteCount = min(segment.byteCount &- skip, UInt32(left))
            skip = 0
            left -= Int(segment.byteCount)
            frame.append(segment)
        }
    }

    /// Takes a frame into the driver's memory, if the device has one that is for the driver.
    mutating func receive(_ device: any NetworkDeviceQueue) {
        layOut(NetworkHeader.byteCount + VirtioFrameRules.mostBytes)
        if let (byteCount, header) = taken(device.receive(into: frame.span)) { finish(byteCount, header) }
    }

    /// Takes a frame into memory of our own, if the device has one.
    mutating func stage(_ device: any NetworkDeviceQueue) {
        frame.removeAll(keepingCapacity: true)
        guard let address = stagingAddress.advanced(by: UInt64(Self.stagingOffset)) else { return }
        frame.append(BusSegment(address: address, byteCount: UInt32(VirtioFrameRules.mostBytes)))
        guard let (byteCount, header) = taken(device.receive(into: frame.span)) else { return }
        held = Held(byteCount: byteCount, header: header)
    }

    /// Puts our own frame into the driver's memory; false if there is too little.
    mutating func place(_ held: Held) -> Bool {
        takeChains(NetworkHeader.byteCount + held.byteCount)
        guard fault == nil, room >= NetworkHeader.byteCount + held.byteCount else {
            isStarved = true
            return false
        }
        layOut(NetworkHeader.byteCount + held.byteCount)
        var done = Self.stagingOffset
        for segment in frame {
            // A store that goes nowhere is the driver's own loss.
            _ = bus.write(segment, from: staging, at: done)
            done += Int(segment.byteCount)
        }
        finish(held.byteCount, held.header)
        return true
    }

    /// What the device gave, with the header for it; nil if it is nothing for the driver.
    @inline(__always)
    private mutating func taken(_ received: FrameReceived) -> (Int, NetworkHeader)? {
        switch received {
        case .nothing: isReady = false
        case .failed: isReady = false
        case .spoilt: counts[.noRoom] &+= 1
        case .frame(let byteCount, let offload):
            guard byteCount >= VirtioFrameRules.leastBytes else {
                counts[.tooShort] &+= 1
                return nil
            }
            do throws(FrameFault) {
                let (header, unfinished) = try rules.header(for: offload)
                if let unfinished, !FrameBytes.complete(unfinished, frame.span, byteCount: byteCount, in: bus) { throw .unfit }
                return (byteCount, header)
            } catch { counts[error] &+= 1 }
        }
        return nil
    }

    /// Answers the chains that a frame lies in, which the driver sees together.
    @inline(__always)
    private mutating func finish(_ byteCount: Int, _ header: NetworkHeader) {
        let total = NetworkHeader.byteCount + byteCount
        var (left, count) = (total, 0)
        while left > 0 {
            let chain = chains[firstChain + count]
            let written = min(left, chain.byteCount)
            if translated != nil { release(chain.ticket) }
            ring.put(chain.ticket, written: UInt32(written))
            left -= written
            count += 1
        }
        var header = header
        header.bufferCount = UInt16(truncatingIfNeeded: count)
        store(header)
        removeChains(count)
        counts.received &+= 1
        counts.receivedBytes &+= UInt64(byteCount)
    }

    /// Stores a header at the first chain's beginning, which has room for it.
    @inline(__always)
    private mutating func store(_ header: NetworkHeader) {
        header.store(staging, at: 0)
        var done = 0
        for index in firstSegment..<segments.count where done < NetworkHeader.byteCount {
            let count = min(Int(segments[index].byteCount), NetworkHeader.byteCount - done)
            _ = bus.write(BusSegment(address: segments[index].address, byteCount: UInt32(count)), from: staging, at: done)
            done += count
        }
    }

    /// Nobody gives memory: what the device has is lost.
    mutating func throwAway(_ device: any NetworkDeviceQueue) -> Int {
        var tried = 0
        while tried < Self.turn, isReady {
            stage(device)
            tried += 1
            if held.take() != nil { counts[.expired] &+= 1 }
        }
        return tried
    }
}
