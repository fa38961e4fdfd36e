// What happens to a queue when its backend goes, comes or changes.

import BlockProtocol
import DeviceFaults
import Hypervisor
import LinuxSystem
import RingFaults
import SharedMemory
import SharedRing

extension BlockQueue {
    /// Acts on what the control thread left.
    mutating func takeNews() {
        newsTaken &+= 1
        for item in mailbox.take() {
            switch item {
            case .suspended: suspend()
            case .connected(let new): use(new)
            case .displaced: displace()
            case .resized(let sectors): properties.sectors = sectors
            case .spoilt(let book, let form): spoil(by: book, form)
            case .lost(let error): fail(error)
            }
        }
    }

    private mutating func spoil(by book: FaultBook, _ form: SlotForm) {
        let wasHonest = faults == nil
        faults = book.isEmpty ? nil : (book, form)
        if wasHonest || faults == nil { tamper() }
    }

    /// What a ring is lied about is forgotten with it.
    private mutating func tamper() { ring.tamper = faults.map { RingSpoiler($0.book, $0.form, time: time) } }

    private mutating func suspend() {
        // What the old backend still answered counts: the fewer are asked again the better.
        takeResponses()
        connection = nil
    }

    private mutating func use(_ new: QueueConnection) {
        guard failure == nil else { return }
        suspend()
        isDisplaced = false
        let unit = new.agreement.properties.sectorSize
        if inFlight > 0 && unit > properties.sectorSize {
            // What is in flight was cut for smaller sectors and cannot be asked again (attacks.md C24).
            fail(.backendBroken("the sector size went from \(properties.sectorSize) to \(unit) with operations in flight"))
            return
        }
        for id in requests.indices { requests[id].operation = -1 }
        freeRequests = (0..<Int32(requests.count)).reversed()
        backlog.removeAll()
        let waiting = operations.indices.filter { operations[$0].outstanding >= 0 }
            .sorted { operations[$0].sequence < operations[$1].sequence }
        for slot in waiting {
            operations[slot].asked = 0
            operations[slot].outstanding = 0
            operations[slot].outcome = .okay
            operations[slot].isFullyAsked = false
            backlog.append(Int32(slot))
        }
        statistics.repeated &+= UInt64(statistics.connections > 0 ? waiting.count : 0)
        statistics.connections &+= 1
        // The control thread has laid the header out before it published the ring; writing the same start values again
        // is seen by nobody, for the backend sleeps until the first request.
        ring = FrontRing(initialising: new.ring.region, BlockRing(new.abi))
        tamper()
        properties = new.agreement.properties
        segmentLimit = new.agreement.segments
        checksGrants = !new.agreement.persistent
        clearsPages = !new.agreement.isTrusted
        connection = new
        kick()
    }

    /// Ends everything in flight as lost; the queue takes nothing more.
    mutating func fail(_ error: BlockFrontendError) {
        guard failure == nil else { return }
        failure = error
        if case .backendBroken = error { mailbox.report(error) }
        connection = nil
        endAll(.lost)
    }

    /// There is no ring for this queue: what is in flight is for another.
    private mutating func displace() {
        guard failure == nil else { return }
        suspend()
        isDisplaced = true
        endAll(.displaced)
    }

    private mutating func endAll(_ outcome: BlockOutcome) {
        backlog.removeAll()
        for id in requests.indices { requests[id].operation = -1 }
        for slot in operations.indices where operations[slot].outstanding >= 0 {
            ended.append(BlockCompletion(tag: operations[slot].tag, outcome: outcome))
            operations[slot].outstanding = -1
            freeOperations.append(Int32(slot))
        }
    }

    /// Prepares to sleep: asks the backend to ring on the next response. False if there is something to reap already.
    public mutating func armWakeUp() -> Bool {
        if mailbox.hasNews || !ended.isEmpty { return false }
        return connection == nil || !ring.armAndRecheck()
    }

    /// What to wait on after `armWakeUp` said so: the backend's doorbell and the control thread's.
    public var wakeDescriptors: (doorbell: Descriptor?, control: Descriptor) {
        (connection?.channel.descriptor, mailbox.pipe.reader)
    }

    /// How long a ring may have been lost before that is looked for, in milliseconds.
    static let recheckMilliseconds: Int32 = 1000

    /// Looks for what a lost ring announced: true if there is something to reap. A backend that was not heard from
    /// because it did not hear is rung once more.
    package mutating func recheck() -> Bool {
        if mailbox.hasNews || !ended.isEmpty { return true }
        guard let connection else { return false }
        if ring.hasResponses() { return true }
        if ring.hasUnheardRequests {
            statistics.notifications &+= 1
            connection.channel.notify()
        }
        return false
    }

    /// Takes a doorbell's ring, once awake.
    public mutating func acknowledgeWakeUp() {
        guard let channel = connection?.channel else { return }
        channel.acknowledge()
        channel.unmask()
    }

    /// Sleeps until there may be something to reap, at most `milliseconds` (negative: for ever).
    /// - Parameter spin: microseconds to look for it awake first: a wake-up costs more than most answers take.
    /// - Returns: whether it slept.
    @discardableResult
    public mutating func wait(milliseconds: Int32, spinning spin: UInt32 = 0) throws(Errno) -> Bool {
        if spin > 0 {
            let end = time.nanoseconds &+ UInt64(spin) &* 1000
            var turns: UInt32 = 0
            repeat {
                if mailbox.hasNews || !ended.isEmpty || (connection != nil && ring.hasResponses()) { return false }
                turns &+= 1
                if turns & 127 == 0 { yieldProcessor() }
                // The clock costs as much as many looks.
            } while turns & 15 != 0 || time.nanoseconds < end
        }
        guard armWakeUp() else { return false }
        let (doorbell, control) = wakeDescriptors
        var left = milliseconds
        while true {
            let slice = inFlight == 0 ? left : left < 0 ? Self.recheckMilliseconds : min(left, Self.recheckMilliseconds)
            if try waitReadable(doorbell?.rawValue ?? control.rawValue, control.rawValue, milliseconds: slice) {
                acknowledgeWakeUp()
                return true
            }
            if recheck() || left == slice { return true }
            if left >= 0 { left -= slice }
        }
    }
}
