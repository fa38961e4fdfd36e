// The control ring's answers: hash settings, and pages to be kept mapped (xen/io/netif.h, "Control messages"). Owned by
// the thread of the interface's first queue. What concerns queues of other threads is done there, and a request is
// answered when all of them have done it: no further request is taken meanwhile, so that a change is never seen half
// done (protocol-rules.md 41).

import Hypervisor
import NetworkProtocol
import Packets
import SharedMemory
import SharedRing
import XenTypes

/// A queue as the control ring sees it.
struct ControlQueue {
    /// Pages that may stay mapped.
    let limit: Int
    /// Nil: the queue is another thread's.
    let mappings: GrantMappings?
    /// What is mapped there, as that thread said last.
    var entries: [GrantMappingEntry] = []
}

/// The way to queues of other threads. Whatever is asked for there is acknowledged, by `ControlServer.acknowledged` on
/// the control ring's thread.
struct RemoteQueues {
    /// Gives all other threads the hash settings; how many there are.
    let spread: (ReceiveSideScaling) -> Int
    /// Has the queue's own thread map or unmap.
    let change: (_ queue: Int, MappingChange) -> Void
}

/// The control ring.
struct ControlServer: ~Copyable {
    var ring: BackRing<ControlRing>
    let interface: InterfaceState
    /// By number.
    private var queues: [ControlQueue]
    /// Nil: all queues are on this thread.
    var remote: RemoteQueues?
    let hypervisor: any Hypervisor
    let frontend: DomainID
    var fault: String?
    private(set) var requests: UInt64 = 0
    /// Where what is set is written down; nil: nowhere.
    private var journal: ControlJournal?
    /// The frontend is to be rung for answers that it can see.
    private var mustNotify = false
    /// The request in hand, while other threads are at it.
    private var pending: Pending?

    private struct Pending {
        let request: ControlRequest
        var status = ControlStatus.success
        /// Threads that have not acknowledged it.
        var left: Int
    }

    private enum Answer {
        case now(ControlStatus, UInt32 = 0)
        /// Another thread will say.
        case later
    }

    init(
        ring: consuming BackRing<ControlRing>, interface: InterfaceState, queues: [ControlQueue], hypervisor: any Hypervisor,
        frontend: DomainID, journal: ControlJournal?
    ) {
        self.ring = ring
        self.journal = journal
        self.interface = interface
        self.queues = queues
        self.hypervisor = hypervisor
        self.frontend = frontend
    }

    /// Answers requests, a few a turn: each may cost calls into the hypervisor (attacks.md B30).
    mutating func work() -> Int {
        guard fault == nil else { return 0 }
        var count = 0
        do throws(RingError) {
            while count < 8, !isWaiting, let request = try ring.nextRequest() {
                count += 1
                begin(request)
            }
        } catch { fault = "control ring: \(error)" }
        requests &+= UInt64(count)
        return count
    }

    /// Whether other threads are at a request: nothing is taken until they have acknowledged it.
    var isWaiting: Bool { pending != nil }

    private mutating func begin(_ request: ControlRequest) {
        switch answer(request) {
        case .later: pending = Pending(request: request, left: 1)
        case .now(.success, let data):
            let count = request.type?.changesScaling == true ? remote?.spread(interface.scaling) ?? 0 : 0
            if count > 0 { pending = Pending(request: request, left: count) } else { respond(to: request, .success, data) }
        case .now(let status, let data): respond(to: request, status, data)
        }
    }

    /// Another thread spreads frames as it is to.
    mutating func acknowledged() {
        guard var pending, pending.left > 0 else { return }
        pending.left -= 1
        self.pending = pending
        guard pending.left == 0 else { return }
        self.pending = nil
        respond(to: pending.request, pending.status, 0)
    }

    /// Another thread has mapped or unmapped what it was to, and now has `entries`.
    mutating func acknowledged(_ status: ControlStatus, queue: Int, _ entries: [GrantMappingEntry]) {
        queues[queue].entries = entries
        pending?.status = status
        acknowledged()
    }

    /// Whether the frontend is to be rung, once for all answers since the last call.
    mutating func takeNotification() -> Bool {
        defer { mustNotify = false }
        return mustNotify
    }

    /// Written down before it can be seen, and shown before the next request is looked at: a successor finds one answer
    /// at most that the frontend lacks.
    private mutating func respond(to request: ControlRequest, _ status: ControlStatus, _ data: UInt32) {
        let response = ControlResponse(to: request, status, data: data)
        if journal != nil {
            let changesMappings = request.type == .addGrantMapping || request.type == .deleteGrantMapping
            let settings = ControlSettings(
                answered: ring.nextRequestIndex, last: response, scaling: interface.scaling,
                mappings: changesMappings ? queues.map { $0.mappings?.entries ?? $0.entries } : [])
            journal?.answered(settings, mappingsChanged: changesMappings)
        }
        ring.push(response)
        if ring.publish() { mustNotify = true }
    }

    private func answer(_ request: ControlRequest) -> Answer {
        switch request.type {
        case .getHashFlags: return .now(.success, HashTypes.all.rawValue)
        case .setHashFlags:
            guard request.data0 & ~HashTypes.all.rawValue == 0, interface.scaling.algorithm != .none else {
                return .now(.invalidParameter)
            }
            return spread { $0.types = HashTypes(rawValue: request.data0) }
        case .setHashAlgorithm:
            guard let algorithm = HashAlgorithm(rawValue: request.data0) else { return .now(.invalidParameter) }
            return spread { $0.algorithm = algorithm }
        case .setHashKey: return setKey(request)
        case .getHashMappingSize: return .now(.success, UInt32(NetworkLimits.maximumHashMappingSize))
        case .setHashMappingSize:
            guard request.data0 <= NetworkLimits.maximumHashMappingSize else { return .now(.invalidParameter) }
            return spread { $0.mapping = Array(repeating: 0, count: Int(request.data0)) }
        case .setHashMapping: return setMapping(request)
        case .getGrantMappingSize:
            guard request.data0 < queues.count else { return .now(.invalidParameter) }
            return .now(.success, UInt32(queues[Int(request.data0)].limit))
        case .addGrantMapping: return changeMappings(request, isAdded: true)
        case .deleteGrantMapping: return changeMappings(request, isAdded: false)
        case nil: return .now(.notSupported)
        }
    }

    /// Changes how frames are spread, for this thread's queues.
    private func spread(_ change: (inout ReceiveSideScaling) -> Void) -> Answer {
        var scaling = interface.scaling
        change(&scaling)
        interface.take(scaling)
        return .now(.success)
    }

    private func setKey(_ request: ControlRequest) -> Answer {
        guard request.data1 <= NetworkLimits.maximumHashKeySize else { return .now(.bufferOverflow) }
        guard let key = bytes(request.data0, Int(request.data1)) else { return .now(.invalidParameter) }
        return spread { $0.toeplitz = ToeplitzHash(key: key) }
    }

    /// Entries from `data2` on, `data1` of them; all valid or none is taken (attacks.md B6).
    private func setMapping(_ request: ControlRequest) -> Answer {
        let (end, overflow) = request.data1.addingReportingOverflow(request.data2)
        guard !overflow, end <= interface.scaling.mapping.count else { return .now(.invalidParameter) }
        guard let raw = bytes(request.data0, Int(request.data1) * 4) else { return .now(.invalidParameter) }
        var entries: [UInt32] = []
        for index in 0..<Int(request.data1) {
            var entry: UInt32 = 0
            for byte in (0..<4).reversed() { entry = entry << 8 | UInt32(raw[4 * index + byte]) }
            guard entry < interface.queueCount else { return .now(.invalidParameter) }
            entries.append(entry)
        }
        return spread { $0.mapping.replaceSubrange(Int(request.data2)..<Int(end), with: entries) }
    }

    /// A private copy of the first bytes of a page of the frontend's; nil if they cannot be had.
    private func bytes(_ reference: UInt32, _ count: Int) -> [UInt8]? {
        if count == 0 { return [] }
        guard count <= SharedRegion.pageSize, let page = try? SharedRegion(anonymous: SharedRegion.pageSize) else { return nil }
        let copy = GrantCopy(
            source: .grant(GrantReference(reference), of: frontend, offset: 0), destination: .local(page, offset: 0),
            byteCount: count)
        guard let statuses = try? hypervisor.copyGrants([copy]), statuses == [.okay] else { return nil }
        return page.bytes(at: 0, count: count)
    }

    /// Maps or unmaps what a page of the frontend's lists.
    private func changeMappings(_ request: ControlRequest, isAdded: Bool) -> Answer {
        let count = Int(request.data2)
        guard request.data0 < queues.count, queues[Int(request.data0)].limit > 0, count >= 1, count <= GrantMappingEntry.perPage
        else { return .now(.invalidParameter) }
        let number = Int(request.data0)
        let change = MappingChange(
            list: GrantReference(request.data1), count: count, isAdded: isAdded, wantsEntries: journal != nil)
        if let mappings = queues[number].mappings { return .now(mappings.apply(change)) }
        remote?.change(number, change)
        return .later
    }
}

extension ControlType {
    /// Whether it changes how frames are spread over queues.
    fileprivate var changesScaling: Bool {
        switch self {
        case .setHashFlags, .setHashAlgorithm, .setHashKey, .setHashMappingSize, .setHashMapping: true
        default: false
        }
    }
}
