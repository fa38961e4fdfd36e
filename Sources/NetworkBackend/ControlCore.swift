// The control ring's answers: hash settings, and pages to be kept mapped (xen/io/netif.h, "Control messages"). Owned by one reactor
// thread, the one of the interface's queues, so that a change is never seen half done (item 41).

import Hypervisor
import Packets
import SharedMemory
import SharedRing
import XenWire

/// The control ring.
struct ControlCore: ~Copyable {
    var ring: BackRing<ControlRing>
    let interface: InterfaceState
    /// By queue.
    let mappings: [GrantMappings]
    let hypervisor: any Hypervisor
    let frontend: DomainID
    var fault: String?
    private(set) var requests: UInt64 = 0
    /// Where what is set is written down; nil: nowhere.
    private var journal: ControlJournal?
    /// The frontend is to be rung for answers that it can see.
    private var mustNotify = false

    init(
        ring: consuming BackRing<ControlRing>, interface: InterfaceState, mappings: [GrantMappings], hypervisor: any Hypervisor,
        frontend: DomainID, journal: ControlJournal?
    ) {
        self.ring = ring
        self.journal = journal
        self.interface = interface
        self.mappings = mappings
        self.hypervisor = hypervisor
        self.frontend = frontend
    }

    /// Answers requests, a few a turn: each may cost calls into the hypervisor (B30).
    mutating func work() -> Int {
        guard fault == nil else { return 0 }
        var count = 0
        do throws(RingError) {
            while count < 8, let request = try ring.nextRequest() {
                count += 1
                let (status, data) = answer(request)
                respond(ControlResponse(to: request, status, data: data), request.type)
            }
        } catch { fault = "control ring: \(error)" }
        requests &+= UInt64(count)
        return count
    }

    /// Whether the frontend is to be rung, once for all answers since the last call.
    mutating func takeNotification() -> Bool {
        defer { mustNotify = false }
        return mustNotify
    }

    /// Written down before it can be seen, and shown before the next request is looked at: a successor finds one answer at most that the
    /// frontend lacks.
    private mutating func respond(_ response: ControlResponse, _ type: ControlType?) {
        if journal != nil {
            let changesMappings = type == .addGrantMapping || type == .deleteGrantMapping
            let settings = ControlSettings(
                answered: ring.nextRequestIndex, last: response, spreading: interface.spreading,
                mappings: changesMappings ? mappings.map(\.entries) : [])
            journal?.answered(settings, mappingsChanged: changesMappings)
        }
        ring.push(response)
        if ring.publish() { mustNotify = true }
    }

    private func answer(_ request: ControlRequest) -> (ControlStatus, UInt32) {
        switch request.type {
        case .getHashFlags: return (.success, HashTypes.all.rawValue)
        case .setHashFlags:
            guard request.data0 & ~HashTypes.all.rawValue == 0, interface.spreading.algorithm != .none else {
                return (.invalidParameter, 0)
            }
            interface.spreading.types = HashTypes(rawValue: request.data0)
            return (.success, 0)
        case .setHashAlgorithm:
            guard let algorithm = HashAlgorithm(rawValue: request.data0) else { return (.invalidParameter, 0) }
            interface.spreading.algorithm = algorithm
            return (.success, 0)
        case .setHashKey: return (setKey(request), 0)
        case .getHashMappingSize: return (.success, UInt32(NetworkProtocol.maximumHashMappingSize))
        case .setHashMappingSize:
            guard request.data0 <= NetworkProtocol.maximumHashMappingSize else { return (.invalidParameter, 0) }
            interface.spreading.mapping = Array(repeating: 0, count: Int(request.data0))
            return (.success, 0)
        case .setHashMapping: return (setMapping(request), 0)
        case .getGrantMappingSize:
            guard let queue = queue(request.data0) else { return (.invalidParameter, 0) }
            return (.success, UInt32(queue.limit))
        case .addGrantMapping: return (changeMappings(request, isAdded: true), 0)
        case .deleteGrantMapping: return (changeMappings(request, isAdded: false), 0)
        case nil: return (.notSupported, 0)
        }
    }

    private func queue(_ index: UInt32) -> GrantMappings? { index < mappings.count ? mappings[Int(index)] : nil }

    private func setKey(_ request: ControlRequest) -> ControlStatus {
        guard request.data1 <= NetworkProtocol.maximumHashKeySize else { return .bufferOverflow }
        guard let key = bytes(request.data0, Int(request.data1)) else { return .invalidParameter }
        interface.spreading.toeplitz = ToeplitzHash(key: key)
        return .success
    }

    /// Entries from `data2` on, `data1` of them; all valid or none is taken (B6).
    private func setMapping(_ request: ControlRequest) -> ControlStatus {
        let (end, overflow) = request.data1.addingReportingOverflow(request.data2)
        guard !overflow, end <= interface.spreading.mapping.count else { return .invalidParameter }
        guard let raw = bytes(request.data0, Int(request.data1) * 4) else { return .invalidParameter }
        var entries: [UInt32] = []
        for index in 0..<Int(request.data1) {
            var entry: UInt32 = 0
            for byte in (0..<4).reversed() { entry = entry << 8 | UInt32(raw[4 * index + byte]) }
            guard entry < interface.queueCount else { return .invalidParameter }
            entries.append(entry)
        }
        interface.spreading.mapping.replaceSubrange(Int(request.data2)..<Int(end), with: entries)
        return .success
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

    /// Maps or unmaps what a page of the frontend's lists, and writes each entry's status into it.
    private func changeMappings(_ request: ControlRequest, isAdded: Bool) -> ControlStatus {
        guard let queue = queue(request.data0), queue.limit > 0 else { return .invalidParameter }
        let count = Int(request.data2)
        guard count >= 1, count <= GrantMappingEntry.perPage else { return .invalidParameter }
        let list: [MappedGrant]
        do throws(HypervisorError) {
            list = try hypervisor.mapGrants([GrantReference(request.data1)], of: frontend, access: .readWrite)
        } catch { return .invalidParameter }
        defer { hypervisor.unmapGrants(list) }
        guard let page = list.first else { return .invalidParameter }
        let entries = (0..<count).map { GrantMappingEntry(word: page.region.load(page.offset + 8 * $0)) }
        let statuses = isAdded ? queue.add(entries) : queue.remove(entries)
        for (index, status) in statuses.enumerated() {
            page.region.store(UInt16(status.rawValue), at: page.offset + 8 * index + 6)
        }
        return statuses.allSatisfy { $0 == .success } ? .success : .invalidParameter
    }
}
