// Packets to the device, in order, and their answers.

import DMA
import LinuxSystem
import NetworkDevices
import NetworkProtocol
import Packets

extension GuestTransmit: FrameSender {
    /// Sends what is prepared, in order, until the device is full, and answers what was sent.
    mutating func sendAll() {
        // Taken out for the call: what sends and answers is this struct.
        var queue = SendQueue<Outgoing>()
        swap(&queue, &outgoing)
        queue.sendAll(through: &self)
        swap(&queue, &outgoing)
        if outgoing.isEmpty {
            ids.removeAll(keepingCapacity: true)
            pieces.removeAll(keepingCapacity: true)
        }
    }

    /// The device has no room for the packets in `outgoing`.
    var isBlocked: Bool { outgoing.isBlocked }

    /// Gives one packet to the device; nil if it is none, or its marks do not fit it.
    mutating func send(_ entry: borrowing Outgoing) -> FrameSent? {
        guard entry.status == .okay, entry.pieceCount > 0 else { return nil }
        let range = entry.firstPiece..<entry.firstPiece + entry.pieceCount
        if let finished = entry.marks.finished { return deviceQueue.send(finished, pieces, range) }
        let region = entry.isCopied ? bounce.region : heads.region
        guard
            let offload = FrameOffload(
                entry.marks, in: region, head: entry.head, headCount: entry.headCount, byteCount: entry.byteCount)
        else { return nil }
        return deviceQueue.send(offload, pieces, range)
    }

    mutating func flush(_ ended: inout [FrameSent]) { deviceQueue.flush(&ended) }

    /// Answers a packet whose turn it is.
    mutating func settle(_ entry: borrowing Outgoing, at place: Int, _ outcome: FrameSent?) {
        var status = entry.status
        let isPacket = entry.pieceCount > 0 && status == .okay
        switch outcome {
        case .failed(let error):
            status = .dropped
            statistics.transmitDropped &+= 1
            interface.transmitDrops.add(DropReason(error))
        case nil:
            if isPacket {
                status = .error
                interface.transmitDrops.add(.unfit)
            }
            if status == .error { statistics.transmitErrors &+= 1 }
        default:
            statistics.transmitted &+= 1
            statistics.transmittedBytes &+= UInt64(entry.byteCount)
        }
        if let trace { tell(trace, entry, at: place, status) }
        ring.push(TransmitResponse(id: ids[entry.firstID], status: status))
        answerExtras(entry.extraCount)
        for index in 1..<max(1, entry.idCount) { ring.push(TransmitResponse(id: ids[entry.firstID + index], status: status)) }
    }

    mutating func answerExtras(_ count: Int) {
        for _ in 0..<count { ring.push(TransmitResponse(id: 0, status: .null)) }
    }

    /// There is another credit now.
    mutating func rateChanged() { creditWait = nil }

    func tell(_ trace: QueueTrace, _ entry: borrowing Outgoing, at place: Int, _ status: NetworkStatus) {
        trace.answered(
            place, status, byteCount: entry.byteCount,
            head: (entry.isCopied ? bounce.region : heads.region, entry.head, entry.headCount), isWhole: entry.isCopied, mappings)
    }
}
