// Packets to the device, in order, and their answers.

import DMA
import HostDevices
import LinuxSystem
import Packets
import XenWire

extension TransmitCore {
    /// Sends what is prepared, in order, until the device is full.
    mutating func sendAll() {
        while nextOutgoing < outgoing.count {
            let entry = outgoing[nextOutgoing]
            var status = entry.status
            if status == .okay, entry.pieceCount > 0 {
                switch send(entry) {
                case .sent:
                    statistics.transmitted &+= 1
                    statistics.transmittedBytes &+= UInt64(entry.byteCount)
                case .full:
                    isBlocked = true
                    return
                case .failed:
                    statistics.transmitDropped &+= 1
                    status = .dropped
                case nil: status = .error
                }
            }
            if status == .error { statistics.transmitErrors &+= 1 }
            if let trace { tell(trace, entry, status) }
            ring.push(TransmitResponse(id: ids[entry.firstID], status: status))
            answerExtras(entry.extraCount)
            for index in 1..<max(1, entry.idCount) { ring.push(TransmitResponse(id: ids[entry.firstID + index], status: status)) }
            nextOutgoing += 1
        }
        isBlocked = false
        if nextOutgoing > 0 {
            outgoing.removeAll(keepingCapacity: true)
            ids.removeAll(keepingCapacity: true)
            pieces.removeAll(keepingCapacity: true)
            nextOutgoing = 0
        }
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

    /// Sends one packet; nil if its marks do not fit it.
    mutating func send(_ entry: Outgoing) -> FrameSent? {
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
