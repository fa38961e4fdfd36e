// What a client hands out: offers, contiguous mappings and channels. Each gives itself back when released.

import Hypervisor
import HypervisorCore
import LinuxSystem
import SharedMemory
import Synchronization
import XenWire

final class LoopbackOffer: OfferedPages {
    let region: SharedRegion
    let references: [GrantReference]
    private let core: ClientCore
    private let run: RunID
    /// Nil until withdrawn; then whether everything ended at once.
    private let withdrawn = Mutex<Bool?>(nil)

    init(_ core: ClientCore, run: RunID, region: SharedRegion, references: [GrantReference]) {
        self.core = core
        self.run = run
        self.region = region
        self.references = references
    }

    deinit { withdraw() }

    func isMapped(page: Int) -> Bool? { core.table.withLock { $0.isInUse(references[page]) } }

    @discardableResult func withdraw() -> Bool {
        withdrawn.withLock { withdrawn in
            if let withdrawn { return withdrawn }
            let ended = retire(core, run, references)
            withdrawn = ended
            return ended
        }
    }
}

/// Ends a run's entries and gives the run up. Entries still in use are ended when the daemon says that the last mapping is gone.
@discardableResult
func retire(_ core: ClientCore, _ run: RunID, _ references: [GrantReference]) -> Bool {
    let left = core.table.withLock { table in references.filter { !table.end($0) } }
    // Before the request: the notice may overtake its answer.
    core.deferred.withLock { $0[run] = left }
    let atOnce: Bool? = try? core.requests.ask(.retireRun(run)) { answer, _ in
        if case .retired(let atOnce) = answer { atOnce } else { nil }
    }
    // Not at once: the notice does it. With the daemon gone nobody does, nor need.
    guard atOnce == true else { return atOnce == nil }
    let ended = core.deferred.withLock { $0.removeValue(forKey: run) } ?? []
    core.table.withLock { table in for reference in ended { _ = table.end(reference) } }
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

/// One end of a channel: a bell of its own to wait on, and the peer's to ring. The daemon is asked only to bind and to close.
///
/// What keeps a ringing peer from keeping this side busy is that the bell is waited on again only after `unmask`; until then the
/// peer's rings stay in the pipe, where all of them count as one.
final class LoopbackChannel: EventChannel {
    let port: EventPort
    let descriptor: Descriptor
    private let id: PortID
    private let core: ClientCore
    private let peer: PeerBell
    private let isClosed = Atomic<Bool>(false)

    /// Made while the request is still under way, so that the notice of a bind finds it.
    init(_ core: ClientCore, _ id: PortID, _ port: EventPort, bell: Descriptor, peer writer: Descriptor?) {
        self.core = core
        self.id = id
        self.port = port
        descriptor = bell
        peer = PeerBell(writer)
        core.register(peer, id)
    }

    deinit { close() }

    @discardableResult func acknowledge() -> Bool {
        guard !isClosed.load(ordering: .acquiring) else { return false }
        return drainPipe(descriptor)
    }

    /// Nothing to do: the caller waits on the bell again from here on, and it still holds what was rung meanwhile.
    func unmask() {}

    func notify() { peer.ring() }

    func close() {
        guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        core.forget(id)
        peer.disconnect()
        try? core.requests.ask(.closePort(port)) { answer, _ in answer == .done ? () : nil }
    }
}
