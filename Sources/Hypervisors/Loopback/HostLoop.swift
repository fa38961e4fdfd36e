// The daemon's one thread: waits, receives one request at a time from each client that has one, answers, and does what
// the rules ask for afterwards.

import Glibc
import Hypervisor
import HypervisorRules
import LinuxSystem
import SharedMemory
import XenStore
import XenStoreServer
import XenTypes

/// A run's memory in the daemon's hands.
struct HostedRun {
    let memory: SealedMemory
    let access: GrantAccess
    /// Opened when somebody first maps it for reading only.
    var readOnly: Descriptor?
    /// Who was passed a descriptor of it.
    var givenTo: Set<ConnectionID> = []
}

/// A port's bell: the daemon keeps the end that rings, to pass it to whoever binds and to announce a death.
struct HostedBell {
    let writer: Descriptor
    let owner: ConnectionID
}

final class HostLoop {
    let core: HypervisorCore
    let runDirectory: String
    let store: StoreServer
    var peers: [Int32: HostPeer] = [:]
    var byConnection: [ConnectionID: HostPeer] = [:]
    var runs: [RunID: HostedRun] = [:]
    var bells: [PortID: HostedBell] = [:]
    /// The user that may connect as a domain, beside the daemon's own and root.
    var claims: [DomainID: UInt32] = [:]
    private let listener: Descriptor
    private let claim: FileClaim
    private let stop: Descriptor
    let time: any TimeSource
    let shares: DescriptorShares
    var passed: PassedDescriptors
    /// Who has sent something or can be sent something, in the order in which they are served.
    private var lines = FairLines<ServedOwner, Int32>()
    /// When it was last looked who has received what.
    var lastSettled: UInt64 = 0
    /// Given up for a moment when descriptors run out, so that whoever knocks is told by a closed socket.
    private var reserve: Descriptor?
    private var entries: [pollfd] = []
    var entriesAreStale = true
    private var isOver = false
    private var hasGreeters = false

    init(
        runDirectory: String, limits: HypervisorLimits, store: StoreServer, stop: Descriptor, time: any TimeSource
    ) throws(HypervisorError) {
        self.runDirectory = runDirectory
        self.store = store
        self.stop = stop
        self.time = time
        shares = DescriptorShares(limits)
        passed = PassedDescriptors(limits)
        core = HypervisorCore(limits: limits)
        FileSystem.makeDirectory(runDirectory, mode: 0o755)
        do throws(ClaimError) { claim = try FileClaim("\(runDirectory)/hypervisor.lock", time: time) } catch {
            switch error {
            case .taken(let holder): throw .system("\(holder)", doing: "\(runDirectory): another host serves there")
            case .system(let reason): throw .system("\(reason)", doing: "opening \(runDirectory)/hypervisor.lock")
            }
        }
        let path = LoopbackHost.socketPath(in: runDirectory)
        // With the lock held, a socket that is there is a dead host's.
        FileSystem.remove(path)
        listener = try describing("listening on \(path)") { () throws(Errno) in try PacketSocket.listen(path) }
        reserve = try? Descriptor.open("/dev/null", O_RDONLY)
        // Ringing a peer that was just killed must cost an EPIPE, not this process.
        Signals.ignoreBrokenPipes()
        do throws(CoreError) { _ = try core.createDomain(.zero) } catch { throw .exhausted("domains") }
        let storePath = LoopbackHost.storePath(in: runDirectory)
        do throws(StoreError) {
            try store.listen(onPath: storePath)
            try store.start()
        } catch { throw .system("\(error)", doing: "serving the store at \(storePath)") }
        store.introduceDomain(.zero)
    }

    // MARK: The loop

    func run() {
        while !isOver { turn() }
    }

    /// Waits, and serves whoever has something, a little of each.
    func turn() {
        let more = core.reap(budget: 512)
        applyEffects()
        if entriesAreStale { collectEntries() }
        let ready = (try? waitForEvents(&entries, milliseconds: more || !lines.isEmpty ? 0 : pause)) ?? 0
        if isShort, ready == 0 { tryShortAgain() }
        dropSilent()
        if ready > 0 { for entry in entries where entry.revents != 0 { lineUp(entry) } }
        serveLines()
    }

    /// Milliseconds until something is to be done that no socket tells of.
    private var pause: Int32 { isShort ? Self.shortage : hasGreeters ? Self.mostGreeting / 4 : -1 }
    /// Milliseconds until what there was no room for is tried again.
    private static let shortage: Int32 = 20
    /// Whether too many descriptors are under way for somebody's message.
    private var isShort: Bool { peers.values.contains { $0.isShort } }

    private func tryShortAgain() {
        settlePassed()
        for peer in Array(peers.values) where peer.isShort {
            peer.isShort = false
            entriesAreStale = true
            answerAgain(peer)
            flush(peer)
        }
    }

    private func collectEntries() {
        entriesAreStale = false
        hasGreeters = peers.values.contains { $0.isGreeting }
        entries = [
            pollfd(fd: stop.rawValue, events: Int16(POLLIN), revents: 0),
            pollfd(fd: listener.rawValue, events: Int16(POLLIN), revents: 0),
        ]
        for peer in peers.values {
            // One that is short has room, and would keep poll from sleeping.
            let events = peer.unsent == nil ? POLLIN : peer.isShort ? 0 : POLLOUT
            entries.append(pollfd(fd: peer.socket.rawValue, events: Int16(events), revents: 0))
            if !peer.queue.isEmpty, !peer.isShort, let socket = peer.noticeSocket {
                entries.append(pollfd(fd: socket.rawValue, events: Int16(POLLOUT), revents: 0))
            }
        }
    }

    /// Takes in what a descriptor shows; whoever has asked for something waits in its owner's line.
    private func lineUp(_ entry: pollfd) {
        if entry.fd == stop.rawValue {
            isOver = true
        } else if entry.fd == listener.rawValue {
            accept()
        } else if let peer = peers[entry.fd] {
            lines.join(entry.fd, of: peer.owner)
        } else {
            // A notice socket that takes more, or whose client is gone.
            for peer in peers.values where peer.noticeSocket?.rawValue == entry.fd { flush(peer) }
        }
    }

    /// Each owner is served for its share of the turn, one request a client; who is left waits for the next.
    private func serveLines() {
        for owner in lines.owners where !isOver {
            let end = time.nanoseconds &+ FairLines<ServedOwner, Int32>.share
            while let client = lines.next(of: owner) {
                if let peer = peers[client] { if peer.unsent == nil { receive(from: peer) } else { answerAgain(peer) } }
                if time.nanoseconds >= end { break }
            }
        }
    }

    // MARK: Who comes

    private func accept() {
        do throws(Errno) {
            let socket = try PacketSocket.accept(listener)
            let user = try PacketSocket.peerUser(socket)
            let peer = HostPeer(socket: socket, standing: .greeting(user: user))
            peer.since = time.nanoseconds
            // Whoever connects and says nothing holds a descriptor of ours: a few may, and who came first goes first.
            let silent = peers.values.filter { $0.isGreeting && $0.owner == peer.owner }
            if silent.count >= Self.mostGreeters, let oldest = silent.min(by: { $0.since < $1.since }) { end(oldest) }
            add(peer)
        } catch {
            // Without a descriptor for it, a connection would keep poll from ever sleeping again: it is taken and
            // turned away.
            guard error == .tooManyOpenFiles || error == .tooManyOpenFilesInSystem else { return }
            reserve = nil
            _ = try? PacketSocket.accept(listener)
            reserve = try? Descriptor.open("/dev/null", O_RDONLY)
        }
    }

    /// Connections of one user that have not said what they want.
    static let mostGreeters = 64
    /// Milliseconds in which it must be said.
    static let mostGreeting: Int32 = 10_000

    private func dropSilent() {
        guard hasGreeters else { return }
        let now = time.nanoseconds
        for peer in Array(peers.values) where peer.isGreeting && now &- peer.since > UInt64(Self.mostGreeting) * 1_000_000 {
            end(peer)
        }
    }

    func add(_ peer: HostPeer) {
        peers[peer.socket.rawValue] = peer
        if let connection = peer.connection { byConnection[connection] = peer }
        entriesAreStale = true
    }

    private func receive(from peer: HostPeer) {
        do throws(Errno) {
            // No request carries descriptors: memory and bells are made here, never by a client.
            let (message, _) = try PacketSocket.receive(peer.socket, descriptors: 0)
            guard !message.isEmpty else { return end(peer) }
            guard let (request, sequence) = try? Request.decode(message) else { return end(peer) }
            let (answer, descriptors) = answer(request, from: peer)
            applyEffects()
            send(answer.encode(sequence: sequence), descriptors, to: peer)
        } catch {
            if !error.passes { end(peer) }
        }
    }

    // MARK: Ends

    /// A client is gone or broke the protocol: it is forgotten at once, and what it held is released in slices.
    func end(_ peer: HostPeer) {
        guard peers.removeValue(forKey: peer.socket.rawValue) != nil else { return }
        entriesAreStale = true
        lines.leave(peer.socket.rawValue)
        forgetPassed(to: peer)
        if let connection = peer.connection {
            byConnection[connection] = nil
            for run in peer.given.keys { runs[run]?.givenTo.remove(connection) }
            core.close(connection)
        }
        if let domain = peer.endsDomain { destroy(domain) }
    }

    func destroy(_ domain: DomainID) {
        guard (try? core.destroyDomain(domain)) != nil else { return }
        claims[domain] = nil
        closeStore(of: domain)
        store.domainDied(domain)
    }

    func shutDown() {
        isOver = true
        for peer in Array(peers.values) { end(peer) }
        while core.reap() { applyEffects() }
        applyEffects()
        for domain in core.domainIDs { closeStore(of: domain) }
        FileSystem.removeDirectory("\(runDirectory)/domain")
        store.stop()
        FileSystem.remove(LoopbackHost.socketPath(in: runDirectory))
        // The lock's file stays: were it removed, two hosts could each lock one of that name.
    }

    // MARK: What the rules ask for

    func applyEffects() {
        for effect in core.takeEffects() { apply(effect) }
    }

    private func apply(_ effect: CoreEffect) {
        switch effect {
        case .runReleased(let run, let owner, let deferred):
            for connection in runs.removeValue(forKey: run)?.givenTo ?? [] {
                byConnection[connection]?.given[run] = nil
                notify(connection, .runGone(run))
            }
            if deferred { notify(owner, .runEnded(run)) }
        case .ring(let port), .rungAtEnd(let port):
            if let bell = bells[port] { signalPipe(bell.writer) }
        case .peerClosed(let port):
            guard let bell = bells[port] else { return }
            notify(bell.owner, .portUnbound(port))
            signalPipe(bell.writer)
        case .portClosed(let port):
            bells[port] = nil
        case .connectionEnded(let connection):
            if let peer = byConnection[connection] { end(peer) }
        case .connectionReleased:
            break
        }
    }
}
