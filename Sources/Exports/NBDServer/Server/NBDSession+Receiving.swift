// What a client sends: its handshake, then requests, and the bytes of its writes. Those that have arrived with others
// are copied into their pages, the rest is received there.

import BlockFrontend
import Glibc
import LinuxSystem
import Reactor
import SharedMemory

extension NBDSession {
    /// Asks for more, unless that is under way or what has arrived cannot be taken yet.
    func receive() {
        guard !isReceiving, let place, let file, phase != .gone, phase != .leaving || current != nil else { return }
        incoming.removeAll()
        direct = 0
        if let filling {
            direct = filling.piece.useful - filling.filled
            guard direct > 0, let lease = filling.piece.lease else { return }
            incoming.append(disk.buffer, at: lease.offset + filling.piece.skip + filling.filled, count: direct)
        } else if current == nil ? freeRequests.isEmpty : !isSkipping {
            return
        }
        if unread.isEmpty {
            unread = 0..<0
        } else if unread.lowerBound > 0 {
            inbox.moveToStart(from: unread.lowerBound, count: unread.count)
            unread = 0..<unread.count
        }
        // Behind a long write only its successor's header is wanted here: its bytes are better received in place.
        let room = min(Self.inboxBytes - unread.count, direct >= Self.longWrite ? NBDRequest.headerBytes : Self.inboxBytes)
        if room > 0 { incoming.append(inbox, at: unread.upperBound, count: room) }
        guard incoming.remaining > 0 else { return }
        isReceiving = true
        disk.reactor.beginRead(file, incoming, at: 0, place, tag: Tag.receive)
    }

    /// A write from so many bytes on is followed by others like it.
    private static var longWrite: Int { 32 << 10 }

    /// So many bytes have arrived; 0: that was all.
    func received(_ result: Int32) {
        isReceiving = false
        guard result > 0 else {
            if result == 0 || !Errno(-result).passes && -result != EINTR { end() }
            return
        }
        var count = Int(result)
        if direct > 0 {
            let part = min(count, direct)
            filling?.filled += part
            count -= part
        }
        unread = unread.lowerBound..<unread.upperBound + count
    }

    // MARK: Handshake

    /// Takes what has arrived of the handshake; true if there was something.
    func talkOn() -> Bool {
        guard !unread.isEmpty, talk.isEmpty, !isSending else { return false }
        var replies: [UInt8] = []
        let (taken, event) = handshake.take(
            inbox.copy(from: unread.lowerBound, count: unread.count), server.exports(of: disk), replies: &replies)
        unread = unread.lowerBound + taken..<unread.upperBound
        talk = replies
        switch event {
        case .more: return taken > 0
        case .serve:
            phase = .serving
            server.began(self)
        case .end: phase = .leaving
        }
        return true
    }

    // MARK: Requests

    /// Takes and begins requests as far as they have arrived, and as there is room for them; true if there was one.
    func takeRequests() -> Bool {
        var worked = false
        // What was said before the handshake's last answer is not a request's.
        guard talk.isEmpty else { return false }
        while phase == .serving || phase == .leaving && current != nil, !isHungry {
            if let index = current {
                if !goOn(index) { return worked }
                worked = true
                continue
            }
            guard unread.count >= NBDRequest.headerBytes, let index = freeRequests.last else { return worked }
            guard let header = NBDRequest(inbox, at: unread.lowerBound) else {
                end()
                return true
            }
            unread = unread.lowerBound + NBDRequest.headerBytes..<unread.upperBound
            worked = true
            freeRequests.removeLast()
            take(header, at: index)
        }
        return worked
    }

    /// Copies what has arrived of a write's bytes to where they belong; true if that was all of the piece's.
    func fill() -> Bool {
        guard case (let piece, var filled)? = filling, let lease = piece.lease else { return false }
        let count = min(unread.count, piece.useful - filled)
        if count > 0 {
            inbox.copy(from: unread.lowerBound, count: count, to: disk.buffer, at: lease.offset + piece.skip + filled)
            unread = unread.lowerBound + count..<unread.upperBound
            filled += count
        }
        filling = (piece, filled)
        return filled == piece.useful
    }

    /// Throws away what has arrived of a refused write's bytes; true if that was all of them.
    func skipPayload(_ index: Int) -> Bool {
        guard let request = requests[index] else { return true }
        let count = min(unread.count, request.byteCount - request.issued)
        unread = unread.lowerBound + count..<unread.upperBound
        requests[index]?.issued += count
        return request.issued + count == request.byteCount
    }
}
