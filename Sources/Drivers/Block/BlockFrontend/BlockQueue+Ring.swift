// From operations to requests, and from responses back.

import BlockProtocol
import Hypervisor
import SharedMemory
import SharedRing

extension BlockQueue {
    /// Pushes what was submitted onto the ring, as far as it goes, and rings the backend if it asked for that.
    public mutating func kick() {
        if mailbox.hasNews { takeNews() }
        guard let connection, !backlog.isEmpty || ring.outstanding > 0 else { return }
        while !backlog.isEmpty, ask(backlog.first) { backlog.removeFirst() }
        if ring.publish() {
            statistics.notifications &+= 1
            connection.channel.notify()
        }
    }

    /// Hands every ended operation to `body`; returns how many there were. Also pushes what had no room on the ring
    /// before.
    @discardableResult
    public mutating func reap(_ body: (BlockCompletion) -> Void) -> Int {
        if mailbox.hasNews { takeNews() }
        takeResponses()
        let count = ended.count
        if count > 0 {
            for completion in ended { body(completion) }
            ended.removeAll(keepingCapacity: true)
            if !backlog.isEmpty { kick() }
        }
        return count
    }

    /// Takes all responses that are there.
    mutating func takeResponses() {
        guard connection != nil else { return }
        do throws(RingError) {
            while let response = try ring.nextResponse() { try accept(response) }
        } catch {
            fail(.backendBroken("\(error)"))
        }
        if !backlog.isEmpty && connection != nil { kick() }
    }

    /// Pushes requests for one operation; false if the ring or the ids ran out before its end.
    private mutating func ask(_ slot: Int32) -> Bool {
        let command = operations[Int(slot)].command
        if command == .read || command == .write { return askForData(slot) }
        guard ring.freeSlots > 0, let id = freeRequests.last else { return false }
        var request: BlockRequest
        let sector = operations[Int(slot)].sector
        switch command {
        case .flush where properties.flush:
            request = BlockRequest(.flush, id: UInt64(id))
        case .flush where properties.barrier:
            // An empty barrier is the older way to flush.
            request = BlockRequest(.barrier, id: UInt64(id))
        case .flush:
            // The backend has no cache to flush, or would have said so.
            operations[Int(slot)].isFullyAsked = true
            finishIfDone(slot)
            return true
        default:
            let secure = command == .secureDiscard
            guard let discard = properties.discard, !secure || discard.secure else {
                operations[Int(slot)].outcome = .unsupported
                operations[Int(slot)].isFullyAsked = true
                finishIfDone(slot)
                return true
            }
            let sectors = UInt64(operations[Int(slot)].byteCount / 512)
            request = BlockRequest(discarding: sectors, at: sector, secure: secure, id: UInt64(id))
        }
        _ = freeRequests.popLast()
        operations[Int(slot)].isFullyAsked = true
        push(request, id: id, operation: slot, bufferOffset: 0, byteCount: 0)
        return true
    }

    private mutating func askForData(_ slot: Int32) -> Bool {
        while operations[Int(slot)].asked < operations[Int(slot)].byteCount {
            guard ring.freeSlots > 0, let id = freeRequests.popLast() else { return false }
            let operation = operations[Int(slot)]
            let start = operation.bufferOffset + operation.asked
            let byteCount = chunk(from: start, left: operation.byteCount - operation.asked)
            let sector = operation.sector + UInt64(operation.asked / 512)
            let code: BlockOperationCode = operation.command == .read ? .read : .write
            if clearsPages, operation.command == .read { buffer.fill(start, count: byteCount, with: 0) }
            let firstPage = start / SharedRegion.pageSize
            let pageCount = (start + byteCount - 1) / SharedRegion.pageSize - firstPage + 1
            var request: BlockRequest
            if pageCount <= BlockLimits.maximumDirectSegments {
                request = BlockRequest(code, id: UInt64(id), sector: sector)
                for page in firstPage..<firstPage + pageCount { request.append(segment(page, start, byteCount)) }
            } else {
                request = BlockRequest(
                    indirect: code, segmentCount: UInt16(pageCount), sector: sector, id: UInt64(id))
                scratch.removeAll(keepingCapacity: true)
                for page in firstPage..<firstPage + pageCount { scratch.append(segment(page, start, byteCount)) }
                writeDescriptors(into: &request, id: Int(id))
            }
            operations[Int(slot)].asked += byteCount
            if operations[Int(slot)].asked == operation.byteCount { operations[Int(slot)].isFullyAsked = true }
            push(request, id: id, operation: slot, bufferOffset: start, byteCount: byteCount)
        }
        return true
    }

    /// As much of an operation as one request takes: whole disk sectors, at most `segmentLimit` pages.
    private func chunk(from start: Int, left: Int) -> Int {
        let firstPageRoom = SharedRegion.pageSize - start % SharedRegion.pageSize
        let room = firstPageRoom + (segmentLimit - 1) * SharedRegion.pageSize
        if left <= room { return left }
        return room / Int(properties.sectorSize) * Int(properties.sectorSize)
    }

    /// The part of page `page` that the range covers.
    @inline(__always)
    private func segment(_ page: Int, _ start: Int, _ byteCount: Int) -> BlockSegment {
        let pageStart = page * SharedRegion.pageSize
        let first = max(start, pageStart) - pageStart
        let end = min(start + byteCount, pageStart + SharedRegion.pageSize) - pageStart
        return BlockSegment(references[page], first: UInt8(first / 512), last: UInt8(end / 512 - 1))
    }

    private func writeDescriptors(into request: inout BlockRequest, id: Int) {
        let perPage = BlockLimits.segmentsPerIndirectPage
        var index = 0
        var page = 0
        while index < scratch.count {
            let end = min(index + perPage, scratch.count)
            let place = id * indirectPagesEach + page
            IndirectPage.store(scratch[index..<end], in: indirect.region, at: place * SharedRegion.pageSize)
            request.setIndirectReference(page, to: indirect.references[place])
            index = end
            page += 1
        }
    }

    private mutating func push(
        _ request: BlockRequest, id: Int32, operation: Int32, bufferOffset: Int, byteCount: Int
    ) {
        let pushed = ring.push(request)
        precondition(pushed, "a free slot was seen")
        requests[Int(id)] = OutstandingRequest(
            operation: operation, code: request.responseOperation, bufferOffset: bufferOffset, byteCount: byteCount)
        operations[Int(operation)].outstanding += 1
        statistics.requests &+= 1
    }

    /// Books one response. The backend is not trusted: an id that is not in flight or another operation than was asked
    /// breaks the connection (Docs/attacks.md, section C; Linux blkfront's "device in error state").
    private mutating func accept(_ response: BlockResponse) throws(RingError) {
        guard response.id < UInt64(requests.count), requests[Int(response.id)].operation >= 0,
            requests[Int(response.id)].code == response.operation
        else {
            fail(.backendBroken("a response that answers nothing: \(response)"))
            return
        }
        let request = requests[Int(response.id)]
        requests[Int(response.id)].operation = -1
        freeRequests.append(Int32(response.id))
        let slot = request.operation
        operations[Int(slot)].outstanding -= 1
        switch response.status {
        case .okay: break
        case .unsupported:
            operations[Int(slot)].outcome = .unsupported
            withdraw(request.code)
        default: if operations[Int(slot)].outcome == .okay { operations[Int(slot)].outcome = .failed }
        }
        if checksGrants && request.byteCount > 0 { checkReleased(request) }
        finishIfDone(slot)
    }

    /// A backend may refuse an operation at any time; it is not asked for again on this connection
    /// (protocol-rules.md 15).
    private mutating func withdraw(_ code: BlockOperationCode) {
        switch code {
        case .flush: properties.flush = false
        case .barrier: properties.barrier = false
        case .discard: properties.discard = nil
        default: break
        }
    }

    /// Without persistent grants the backend must have let go of the pages before it answers; one that has not could
    /// still write into a buffer that is in other use (protocol-rules.md 7 and 17).
    private mutating func checkReleased(_ request: OutstandingRequest) {
        let first = request.bufferOffset / SharedRegion.pageSize
        let last = (request.bufferOffset + request.byteCount - 1) / SharedRegion.pageSize
        // A page at either end may be shared with another operation in flight.
        for page in first...last where pages.isMapped(page: page) == true && !isShared(page) {
            fail(.backendBroken("grant \(references[page]) is still mapped after the response"))
            return
        }
    }

    private func isShared(_ page: Int) -> Bool {
        let start = page * SharedRegion.pageSize
        return requests.contains {
            $0.operation >= 0 && $0.byteCount > 0 && $0.bufferOffset < start + SharedRegion.pageSize
                && $0.bufferOffset + $0.byteCount > start
        }
    }

    /// Ends an operation whose last request was answered.
    mutating func finishIfDone(_ slot: Int32) {
        let operation = operations[Int(slot)]
        guard operation.isFullyAsked, operation.outstanding == 0 else { return }
        ended.append(BlockCompletion(tag: operation.tag, outcome: operation.outcome))
        operations[Int(slot)].outstanding = -1
        freeOperations.append(slot)
    }
}
