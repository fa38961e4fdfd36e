// Answers: all that are ready go out in one write, a read's data from the pages that the backend has filled.

import Glibc
import LinuxSystem
import Reactor
import SharedMemory

extension NBDSession {
    /// Sends what is ready, unless something is being sent; true if there was something.
    func sendReady() -> Bool {
        guard !isSending, let place, let file, phase != .gone else { return false }
        outgoing.removeAll()
        if !talk.isEmpty {
            headers.store(talk, at: 0)
            outgoing.append(headers, at: 0, count: talk.count)
        } else if !done.isEmpty {
            swap(&done, &sent)
            for index in sent { load(index) }
        } else {
            return false
        }
        isSending = true
        disk.reactor.beginWrite(file, outgoing, at: 0, place, tag: Tag.send)
        return true
    }

    private func load(_ index: Int) {
        guard let request = requests[index] else { return }
        let hasData = request.command == .read && request.outcome == .none
        let header = index * NBDReplyHeader.placeBytes
        let count = NBDReplyHeader.write(
            to: headers, at: header, cookie: request.header.cookie, request.outcome, dataBytes: hasData ? request.byteCount : nil,
            offset: request.header.offset, isStructured: handshake.isStructured)
        outgoing.append(headers, at: header, count: count)
        guard hasData else { return }
        if let memory = request.gathered {
            outgoing.append(memory, at: 0, count: request.byteCount)
        } else if let lease = request.lease {
            outgoing.append(disk.buffer, at: lease.offset + request.skip, count: request.byteCount)
        }
    }

    /// So many bytes have gone.
    func sent(_ result: Int32) {
        guard let place, let file else { return }
        if result > 0 { outgoing.advance(UInt64(result)) }
        let isOver = result == 0 || result < 0 && !Errno(-result).passes && -result != EINTR
        if !isOver, outgoing.remaining > 0 {
            return disk.reactor.beginWrite(file, outgoing, at: 0, place, tag: Tag.send)
        }
        isSending = false
        talk = []
        for index in sent {
            if let lease = requests[index]?.lease { disk.release(lease, of: self) }
            free(index)
        }
        sent.removeAll(keepingCapacity: true)
        if isOver { end() }
    }
}
