// What a client hands out: offers, contiguous mappings and channels. Each gives itself back when released.

import Hypervisor
import HypervisorRules
import LinuxSystem
import SharedMemory
import Synchronization
import XenTypes

final class LoopbackOffer: OfferedPages {
    let region: SharedRegion
    let references: [GrantReference]
    private let connection: HostConnection
    private let run: RunID
    /// Nil until withdrawn; then whether everything ended at once.
    private let withdrawn = Mutex<Bool?>(nil)

    init(_ connection: HostConnection, run: RunID, region: SharedRegion, references: [GrantReference]) {
        self.connection = connection
        self.run = run
        self.region = region
        self.references = references
    }

    deinit { withdraw() }

    func isMapped(page: Int) -> Bool? { connection.table.withLock { $0.isInUse(references[page]) } }

    @discardableResult func withdraw() -> Bool {
        withdrawn.withLock { withdrawn in
            if let withdrawn { return withdrawn }
            let ended = retire(connection, run, references)
            withdrawn = ended
            return ended
        }
    }
}

/// Ends a run's entries and gives the run up. Entries still in use are ended when the daemon says that the last mapping
/// is gone.
@discardableResult
func retire(_ connection: HostConnection, _ run: RunID, _ references: [GrantReference]) -> Bool {
    let left = connection.table.withLock { table in references.filter { !table.end($0) } }
    // Before the request: the notice may overtake its answer.
    connection.deferred.withLock { $0[run] = left }
    let atOnce: Bool? = try? connection.requests.ask(.retireRun(run)) { answer, _ in
        if case .retired(let atOnce) = answer { atOnce } else { nil }
    }
    // Not at once: the notice does it. With the daemon gone nobody does, nor need.
    guard atOnce == true else { return atOnce == nil }
    let ended = connection.deferred.withLock { $0.removeValue(forKey: run) } ?? []
    connection.table.withLock { table in for reference in ended { _ = table.end(reference) } }
    return true
}

final class LoopbackContiguous: ContiguousGrants {
    let region: SharedRegion
    private let hypervisor: LoopbackHypervisor
    private let pins: Mutex<[UnmapRequest]>

    init(_ hypervisor: LoopbackHypervisor, region: SharedRegion, pins: [UnmapRequest]) {
        self.hypervisor = hypervisor
        self.region = region
        self.pins = Mutex(pins)
    }

    deinit { unmap() }

    func unmap() {
        let taken = pins.withLock { pins in
            defer { pins = [] }
            return pins
        }
        hypervisor.unpin(taken)
    }
}

/// One end of a channel: a bell of its own to wait on, and the peer's to ring. The daemon is asked only to bind and to
/// close.
///
/// What keeps a ringing peer from keeping this side busy is that the bell is waited on again only after `unmask`; until
/// then the peer's rings stay in the pipe, where all of them count as one.
final class LoopbackChannel: EventChannel {
    let port: EventPort
    let descriptor: Descriptor
    private let id: PortID
    private let connection: HostConnection
    private let peer: PeerBell
    private let isClosed = Atomic<Bool>(false)

    /// Made while the request is still under way, so that the notice of a bind finds it.
    init(_ connection: HostConnection, _ id: PortID, _ port: EventPort, bell: Descriptor, peer writer: Descriptor?) {
        self.connection = connection
        self.id = id
        self.port = port
        descriptor = bell
        peer = PeerBell(writer)
        connection.register(peer, id)
    }

    deinit { close() }

    @discardableResult func acknowledge() -> Bool {
        guard !isClosed.load(ordering: .acquiring) else { return false }
        return drainPipe(descriptor)
    }

    /// Nothing to do: the caller waits on the bell again from here on, and it still holds what was rung meanwhile.
    func unmask() {}

    func notify() { peer.ring() }

    func whenPeerCloses(_ body: @escaping @Sendable () -> Void) { peer.whenGone(body) }

    func close() {
        guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        connection.forget(id)
        peer.disconnect()
        try? connection.requests.ask(.closePort(port)) { answer, _ in answer == .done ? () : nil }
    }
}
