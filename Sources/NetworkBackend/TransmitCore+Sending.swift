// Packets to the device, in order, and their answers.

import DMA
import HostDevices
import LinuxSystem
import Packets
import XenWire

extension TransmitCore {
    /// Sends what is prepared, in order, until the device is full, and answers what was sent.
    mutating func sendAll() {
        isBlocked = false
        while nextOutgoing < outgoing.count, !isBlocked {
            let given = give()
            ended.removeAll(keepingCapacity: true)
            lane.flush(&ended)
            answer(upTo: given)
        }
        if nextOutgoing > 0, !isBlocked {
            outgoing.removeAll(keepingCapacity: true)
            ids.removeAll(keepingCapacity: true)
            pieces.removeAll(keepingCapacity: true)
            nextOutgoing = 0
        }
    }

    /// Gives the device as many as it takes; the first that it did not take. If that has no room though none waits, the device is full.
    private mutating func give() -> Int {
        var isFull = true
        for index in nextOutgoing..<outgoing.count {
            guard outgoing[index].status == .okay, outgoing[index].pieceCount > 0 else { continue }
            switch send(outgoing[index]) {
            case .sent: break
            case .waiting:
                outgoing[index].isWaiting = true
                isFull = false
            case .full:
                isBlocked = isFull
                return index
            case .failed: outgoing[index].status = .dropped
            case nil: outgoing[index].status = .error
            }
        }
        return outgoing.count
    }

    /// Answers what the device has done with, of those before `end`.
    private mutating func answer(upTo end: Int) {
        var outcome = 0
        while nextOutgoing < end {
            if outgoing[nextOutgoing].isWaiting {
                outgoing[nextOutgoing].isWaiting = false
                switch ended[outcome] {
                case .sent, .waiting: break
                case .failed: outgoing[nextOutgoing].status = .dropped
                case .full: return block(nextOutgoing..<end)
                }
                outcome += 1
            }
            answer(outgoing[nextOutgoing])
            nextOutgoing += 1
        }
    }

    /// There was no room for the first of these, and none is sent.
    private mutating func block(_ range: Range<Int>) {
        for index in range { outgoing[index].isWaiting = false }
        isBlocked = true
    }

    private mutating func answer(_ entry: Outgoing) {
        switch entry.status {
        case .okay where entry.pieceCount > 0:
            statistics.transmitted &+= 1
            statistics.transmittedBytes &+= UInt64(entry.byteCount)
        case .dropped: statistics.transmitDropped &+= 1
        case .error: statistics.transmitErrors &+= 1
        default: break
        }
        if let trace { tell(trace, entry, entry.status) }
        ring.push(TransmitResponse(id: ids[entry.firstID], status: entry.status))
        answerExtras(entry.extraCount)
        for index in 1..<max(1, entry.idCount) { ring.push(TransmitResponse(id: ids[entry.firstID + index], status: entry.status)) }
    }

    mutating func answerExtras(_ count: Int) {
        for _ in 0..<count { ring.push(TransmitResponse(id: 0, status: .null)) }
    }

    /// From now on the frontend may send so much.
    mutating func setRate(_ rate: CreditRate?) {
        credit = Credit(rate, now: monotonicNanoseconds() / 1000)
        creditWait = nil
    }

    func tell(_ trace: QueueTrace, _ entry: Outgoing, _ status: NetworkStatus) {
        trace.answered(
            nextOutgoing, status, byteCount: entry.byteCount,
            head: (entry.isCopied ? bounce.region : heads.region, entry.head, entry.headCount), isWhole: entry.isCopied, mappings)
    }

    /// Gives one packet to the device; nil if its marks do not fit it.
    private mutating func send(_ entry: Outgoing) -> FrameSent? {
        let range = entry.firstPiece..<entry.firstPiece + entry.pieceCount
        if let finished = entry.marks.finished { return lane.send(finished, pieces, range) }
        let region = entry.isCopied ? bounce.region : heads.region
        guard
            let offload = FrameOffload(
                entry.marks, in: region, head: entry.head, headCount: entry.headCount, byteCount: entry.byteCount)
        else { return nil }
        return lane.send(offload, pieces, range)
    }
}
