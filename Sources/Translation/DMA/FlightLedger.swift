// Which memory must stay mapped because a device may still be reading or writing it. A region detached in the middle of
// I/O is kept until every operation that had begun by then has ended: were it unmapped, the kernel could write a
// completion's data into whatever was mapped at that address next.
//
// Two epochs with a counter each, as in read-copy-update: an operation counts in the epoch it began in. The cost is one
// increment and one decrement an operation, however many regions it touches.

import SharedMemory

/// The token of one operation in flight, to be given back when it ends.
public struct Flight: Sendable {
    let epoch: Int
}

struct FlightLedger {
    private var active = (0, 0)
    /// Regions, or what keeps them in their places.
    private var retired: ([AnyObject], [AnyObject]) = ([], [])
    private var current = 0

    /// Operations in flight.
    var count: Int { active.0 + active.1 }
    /// Regions kept for them.
    var retiredCount: Int { retired.0.count + retired.1.count }

    mutating func begin() -> Flight {
        if current == 0 { active.0 += 1 } else { active.1 += 1 }
        return Flight(epoch: current)
    }

    mutating func end(_ flight: Flight) {
        if flight.epoch == 0 { active.0 -= 1 } else { active.1 -= 1 }
        settle()
    }

    mutating func retire(_ region: AnyObject) {
        if active.0 + active.1 == 0 { return }
        if current == 0 { retired.0.append(region) } else { retired.1.append(region) }
        settle()
    }

    /// Releases what nothing in flight can reach any more, then opens a new epoch if the other one has run out.
    private mutating func settle() {
        // While the other epoch has operations, they too may use what was retired in this one: it waits for both.
        let other = current == 0 ? active.1 : active.0
        if other > 0 { return }
        if current == 0 { retired.1.removeAll() } else { retired.0.removeAll() }
        let here = current == 0 ? active.0 : active.1
        if here == 0 {
            retired.0.removeAll()
            retired.1.removeAll()
        } else if (current == 0 ? retired.0 : retired.1).isEmpty == false {
            current = 1 - current
        }
    }
}

extension MemoryBus {
    /// Call when an operation begins that holds pointers from `resolve` beyond the call.
    public func beginFlight() -> Flight { flights.begin() }
    /// Call when that operation has ended: no more access to its memory.
    public func endFlight(_ flight: Flight) { flights.end(flight) }
    /// Keeps a region that was taken off the bus until the operations that had begun before have ended.
    func retire(_ region: SharedRegion) { flights.retire(region) }
    /// Operations in flight.
    public var flightCount: Int { flights.count }
    /// Detached regions that are still mapped because of operations in flight.
    public var retiredCount: Int { flights.retiredCount }
}
