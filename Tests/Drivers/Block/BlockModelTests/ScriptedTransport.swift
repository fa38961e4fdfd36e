// A transport of a test's own: it knows no ring and no grant, hands out the requests of a list, and writes down what it
// is told.

import BlockDevices
import BlockModel
import DMA

/// Whether a request's data can be reached.
enum Reach: Equatable {
    case now
    /// Not when it is taken, but in the same turn.
    case later
    /// Only when something has ended; until then the transport is stalled.
    case whenFreed
    /// Not when it is taken, and not at all.
    case never
    /// There seems to be a way, and the disk cannot have it.
    case notByTheDisk
}

/// A request as its peer asks it.
struct Asked: Equatable {
    var id: Int
    var work: BlockWork
    var reach = Reach.now
    /// It makes no sense: the transport refuses it.
    var isNonsense = false
    /// What is done after its work, one after the other.
    var more: [DeviceOperation] = []
}

struct Answered: Equatable {
    var id: Int
    var outcome: WorkOutcome
}

struct BrokenRing: Error, CustomStringConvertible, Equatable { var description = "a ring that makes no sense" }

/// Which request has which tag, for the disk, which is told tags only.
final class RequestNames {
    var byTag: [UInt32: Int] = [:]
}

struct ScriptedTransport: BlockTransport {
    typealias Fault = BrokenRing
    let names = RequestNames()
    var asked: [Asked] = []
    /// The list's end is a fault.
    var breaksAtEnd = false
    var answered: [Answered] = []
    var withdrawn: OptionalOperations = []
    var published = 0
    /// Who is in which slot.
    var holders: [RequestSlot: Asked] = [:]
    private var waiting: [RequestSlot] = []
    private(set) var isStalled = false

    mutating func hasRequests() -> Bool { !asked.isEmpty || breaksAtEnd }

    mutating func next(in slot: RequestSlot, inFlight: Int) throws(BrokenRing) -> TakenRequest {
        if isStalled { return .none }
        guard let request = asked.first else {
            if breaksAtEnd { throw BrokenRing() }
            return .none
        }
        asked.removeFirst()
        if request.isNonsense {
            answered.append(Answered(id: request.id, outcome: .failed))
            return .refused
        }
        precondition(holders[slot] == nil, "a slot that is not vacant")
        holders[slot] = request
        names.byTag[slot.tag] = request.id
        switch request.reach {
        case .now, .notByTheDisk: return .ready(request.work)
        case .later, .whenFreed, .never:
            waiting.append(slot)
            return .waiting(request.work)
        }
    }

    mutating func nextWaiting(inFlight: Int) -> (slot: RequestSlot, isReachable: Bool)? {
        while let slot = waiting.first {
            if holders[slot]?.reach == .whenFreed {
                // Its first try finds no room, its second does.
                holders[slot]?.reach = .later
                isStalled = true
                return nil
            }
            isStalled = false
            waiting.removeFirst()
            return (slot, holders[slot]?.reach != .never)
        }
        return nil
    }

    mutating func nextRange(of slot: RequestSlot) -> DeviceOperation? {
        guard let more = holders[slot]?.more, !more.isEmpty else { return nil }
        return holders[slot]?.more.removeFirst()
    }

    mutating func reach(_ slot: RequestSlot, _ direction: DMADirection, into segments: inout [BusSegment]) -> Bool {
        guard let request = holders[slot], request.reach != .notByTheDisk else { return false }
        segments.append(
            BusSegment(address: BusAddress(rawValue: UInt64(request.id) << 12), byteCount: UInt32(request.work.byteCount)))
        return true
    }

    mutating func answer(_ request: consuming EndedRequest, _ outcome: WorkOutcome) {
        if let asked = holders.removeValue(forKey: request.slot) { answered.append(Answered(id: asked.id, outcome: outcome)) }
        request.answered()
    }

    mutating func withdraw(_ operations: OptionalOperations) { withdrawn.formUnion(operations) }

    mutating func publish() -> Bool {
        defer { published = answered.count }
        return answered.count > published
    }
}
