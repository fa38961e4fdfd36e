// Answers and notices on their way to the clients, and the descriptors that go with them: nothing here waits, and what
// somebody does not receive is his domain's own share.

import HypervisorRules
import LinuxSystem

extension HostLoop {
    // MARK: Answers

    /// Sends an answer, or keeps it until there is room.
    func send(_ message: [UInt8], _ descriptors: [Descriptor], to peer: HostPeer) {
        if mayPass(descriptors.count, to: peer) {
            do throws(Errno) {
                try PacketSocket.send(peer.socket, message, descriptors)
                peer.passed.answers += descriptors.count
                passed.add(descriptors.count, for: peer.domain)
                return
            } catch {
                if error == .tooManyReferences { peer.isShort = true }
                guard error.passes || peer.isShort else { return end(peer) }
            }
        }
        peer.unsent = (message, descriptors)
        entriesAreStale = true
    }

    func answerAgain(_ peer: HostPeer) {
        guard let (message, descriptors) = peer.unsent else { return }
        peer.unsent = nil
        entriesAreStale = true
        send(message, descriptors, to: peer)
    }

    // MARK: Notices

    func notify(_ connection: ConnectionID, _ notice: Notice, _ descriptors: [Descriptor] = []) {
        guard let peer = byConnection[connection] else { return }
        let wasEmpty = peer.queue.isEmpty
        peer.enqueue(notice, descriptors)
        // While older ones wait for the socket, poll says when.
        if wasEmpty { flush(peer) }
    }

    /// Sends what the socket takes.
    func flush(_ peer: HostPeer) {
        guard let socket = peer.noticeSocket, peer.firstNotice != nil else { return }
        entriesAreStale = true
        while let (notice, descriptors) = peer.firstNotice {
            guard mayPass(descriptors.count, to: peer) else { return }
            do throws(Errno) {
                try PacketSocket.send(socket, notice.encode(), descriptors)
                peer.passed.notices += descriptors.count
                passed.add(descriptors.count, for: peer.domain)
                peer.removeNotice()
            } catch {
                // Like a full socket, it passes.
                if error == .tooManyReferences { peer.isShort = true }
                if !error.passes, !peer.isShort { peer.noticeSocket = nil }
                return
            }
        }
    }

    // MARK: Descriptors under way

    /// Whether so many descriptors may go to a client; if not, it is tried again later.
    private func mayPass(_ count: Int, to peer: HostPeer) -> Bool {
        guard count > 0 else { return true }
        settlePassed(to: peer)
        if passed.allows(count, for: peer.domain) { return true }
        // What others have received meanwhile may make room; not looked at for each of a flood's messages.
        if time.nanoseconds &- lastSettled > 5_000_000 {
            settlePassed()
            if passed.allows(count, for: peer.domain) { return true }
        }
        peer.isShort = true
        entriesAreStale = true
        return false
    }

    /// Looks who has received what.
    func settlePassed() {
        lastSettled = time.nanoseconds
        for peer in peers.values { settlePassed(to: peer) }
    }

    private func settlePassed(to peer: HostPeer) {
        if peer.passed.answers > 0, PacketSocket.isReadOut(peer.socket) {
            passed.remove(peer.passed.answers, for: peer.domain)
            peer.passed.answers = 0
        }
        if peer.passed.notices > 0, peer.noticeSocket.map(PacketSocket.isReadOut) ?? true {
            passed.remove(peer.passed.notices, for: peer.domain)
            peer.passed.notices = 0
        }
    }

    /// A client is gone, and its sockets with what lay in them.
    func forgetPassed(to peer: HostPeer) {
        passed.remove(peer.passed.answers + peer.passed.notices, for: peer.domain)
        peer.passed = (0, 0)
    }
}
