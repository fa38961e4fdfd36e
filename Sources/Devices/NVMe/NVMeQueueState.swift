// What changes with each operation: requests, the commands that they are made of, and which command is whose. In memory
// of its own, grown to what is in flight and then used again.

import BlockDevices
import DMA
import LinuxSystem

/// An operation, as one or more commands.
struct NVMeRequest {
    var operation = DeviceOperation.flush
    var tag: UInt32 = 0
    /// Its data, as the controller finds it: told when it begins, for the bus may have let go of it by the time that
    /// the last command of it is made.
    var segments: [DeviceSegment] = []
    /// Bytes of data.
    var byteCount: UInt64 = 0
    /// How far commands have been made of it.
    var place = TransferPlace()
    /// Bytes of the disk that commands have been made for.
    var issued: UInt64 = 0
    var isIssued = false
    /// Whether a predecessor was asked the same and has not answered it.
    var isRepeat = false
    /// Commands under way.
    var commands = 0
    var error: Errno?
    var flight: Flight?
}

/// A command under way, or a free place for one. Its index is its identifier.
struct NVMeCommandSlot {
    /// Whose; negative: nobody's.
    var request: Int32 = -1
    var retries: UInt8 = 0
    /// When it was given, or is to be given again, in beats.
    var given: UInt32 = 0
    /// Whether it waits to be given again.
    var isParked = false
    var command = NVMeCommand()
}

/// A queue's requests and commands.
struct NVMeQueueState: ~Copyable {
    /// How often a command is given again that may succeed another time.
    static let mostRetries: UInt8 = 5

    var rings: QueueRings
    let namespace: UInt32
    private let blockShift: UInt64
    let blockMask: UInt64
    private let mostBytes: UInt64
    private let constraints = PageList.constraints
    private(set) var slots: [NVMeCommandSlot]
    private var freeSlots: [UInt16]
    var requests: [NVMeRequest] = []
    private var freeRequests: [UInt32] = []
    /// Requests that commands are still to be made of, in order.
    var waiting = RequestLine()
    /// Requests that have ended and whose owner has not heard of it.
    var over: [UInt32] = []
    /// Requests begun and not told of.
    private(set) var active = 0
    /// Seconds that something was in flight.
    var tick: UInt32 = 0

    init(_ rings: consuming QueueRings, _ identity: NVMeNamespaceIdentity, mostBytes: UInt64) {
        let depth = rings.depth
        self.rings = rings
        namespace = identity.number
        blockShift = UInt64(identity.blockShift)
        blockMask = 1 << UInt64(identity.blockShift) - 1
        // A transfer of at least a block, and of whole ones.
        self.mostBytes = max(mostBytes & ~blockMask, 1 << UInt64(identity.blockShift))
        slots = Array(repeating: NVMeCommandSlot(), count: depth)
        freeSlots = (0..<UInt16(depth)).reversed()
    }

    var hasRoom: Bool { !freeSlots.isEmpty }
    /// Commands under way.
    var commands: Int { slots.count - freeSlots.count }

    mutating func begin(
        _ operation: DeviceOperation, tag: UInt32, _ segments: Span<BusSegment>, on bus: MemoryBus, byteCount: UInt64
    ) -> UInt32 {
        let index = freeRequests.popLast() ?? UInt32(requests.count)
        if index == requests.count { requests.append(NVMeRequest()) }
        active += 1
        let place = Int(index)
        requests[place].operation = operation
        requests[place].tag = tag
        requests[place].segments.removeAll(keepingCapacity: true)
        for segment in segments.indices { bus.tell(segments[segment], to: &requests[place].segments) }
        requests[place].byteCount = byteCount
        requests[place].place = TransferPlace()
        requests[place].issued = 0
        requests[place].isIssued = false
        requests[place].isRepeat = false
        requests[place].error = nil
        requests[place].flight = bus.beginFlight()
        return index
    }

    /// Whether no command is to be made of a request any more.
    func isMade(_ index: UInt32) -> Bool { requests[Int(index)].isIssued || requests[Int(index)].error != nil }

    /// Makes the next command of a request, for which there is room.
    /// - Parameter inherited: what became of a predecessor's commands.
    mutating func issueNext(_ index: UInt32, _ inherited: InheritedCommands? = nil) {
        let place = Int(index)
        guard let slot = freeSlots.last else { return }
        guard var command = nextCommand(place, Int(slot)) else {
            // A block with a gap in it.
            requests[place].error = .invalidArgument
            return
        }
        if requests[place].isRepeat, let inherited, let status = inherited.take(identity(of: command, Int(slot))) {
            if !status.isSuccess { requests[place].error = status.errno }
            return
        }
        freeSlots.removeLast()
        command.identifier = slot
        slots[Int(slot)] = NVMeCommandSlot(request: Int32(index), given: tick, command: command)
        requests[place].commands += 1
        rings.push(command, of: Int(slot))
    }

    private func identity(of command: NVMeCommand, _ slot: Int) -> CommandIdentity {
        CommandIdentity(
            command, blockShift: blockShift, list: rings.listOffset(slot), at: rings.listAddress(slot), in: rings.region)
    }

    private mutating func nextCommand(_ place: Int, _ slot: Int) -> NVMeCommand? {
        switch requests[place].operation {
        case .read(let offset): return nextTransfer(place, slot, offset, write: false, isDurable: false)
        case .write(let offset, let isDurable): return nextTransfer(place, slot, offset, write: true, isDurable: isDurable)
        case .flush:
            requests[place].isIssued = true
            return .flush(namespace: namespace)
        case .discard(let offset, let byteCount, _):
            let (block, count) = nextRange(place, offset, byteCount, most: UInt64(UInt32.max))
            let range = rings.listOffset(slot)
            rings.region.store(UInt32(0), at: range)
            rings.region.store(UInt32(truncatingIfNeeded: count), at: range + 4)
            rings.region.store(block, at: range + 8)
            return .deallocate(namespace: namespace, range: rings.listAddress(slot))
        case .writeZeroes(let offset, let byteCount, let mayUnmap):
            // No longer than a transfer may be, though nothing is transferred: a controller may count it as one.
            let most = min(NVMeCommand.mostBlocks, mostBytes >> blockShift)
            let (block, count) = nextRange(place, offset, byteCount, most: most)
            return .writeZeroes(namespace: namespace, block: block, count: count, mayDeallocate: mayUnmap)
        }
    }

    private mutating func nextTransfer(_ place: Int, _ slot: Int, _ offset: UInt64, write: Bool, isDurable: Bool) -> NVMeCommand? {
        // A reference, not a copy.
        let segments = requests[place].segments
        let start = requests[place].place
        let most = min(mostBytes, NVMeCommand.mostBlocks << blockShift)
        guard
            let count = constraints.partByteCount(
                of: segments.span, from: start, most: most, unit: UInt32(blockMask + 1))
        else { return nil }
        var command = NVMeCommand.transfer(
            write: write, namespace: namespace, block: (offset + requests[place].issued) >> blockShift, count: count >> blockShift,
            isForced: isDurable)
        rings.describe(segments.span, from: start, byteCount: count, of: slot, in: &command)
        requests[place].issued += count
        if requests[place].issued == requests[place].byteCount {
            requests[place].isIssued = true
        } else {
            requests[place].place.advance(count, in: segments.span)
        }
        return command
    }

    private mutating func nextRange(_ place: Int, _ offset: UInt64, _ byteCount: UInt64, most: UInt64) -> (
        block: UInt64, count: UInt64
    ) {
        let block = (offset + requests[place].issued) >> blockShift
        let count = min(most, (byteCount - requests[place].issued) >> blockShift)
        requests[place].issued += count << blockShift
        requests[place].isIssued = requests[place].issued == byteCount
        return (block, count)
    }

    /// Accounts a completion; false: it is of no command that is under way.
    mutating func settle(_ completion: NVMeCompletion) -> Bool {
        let slot = Int(completion.identifier)
        guard slot < slots.count, slots[slot].request >= 0, !slots[slot].isParked else { return false }
        if completion.status.mayRetry, slots[slot].retries < Self.mostRetries {
            retry(slot, completion.status)
            return true
        }
        let index = UInt32(slots[slot].request)
        if !completion.status.isSuccess, requests[Int(index)].error == nil {
            requests[Int(index)].error = completion.status.errno
        }
        free(slot)
        if isOver(index) { over.append(index) }
        return true
    }

    /// Gives a command again, whose pages and list are as they were: now, or with a later beat where the controller
    /// wants a pause.
    private mutating func retry(_ slot: Int, _ status: NVMeStatus) {
        slots[slot].retries += 1
        slots[slot].given = tick
        if status.retryDelay > 0 {
            slots[slot].isParked = true
            rings.ledger?.forget(slot)
        } else {
            rings.push(slots[slot].command, of: slot)
        }
    }

    /// Gives again what waits for that.
    mutating func unpark() {
        for slot in slots.indices where slots[slot].isParked {
            slots[slot].isParked = false
            slots[slot].given = tick
            rings.push(slots[slot].command, of: slot)
        }
    }

    private mutating func free(_ slot: Int) {
        rings.ledger?.forget(slot)
        requests[Int(slots[slot].request)].commands -= 1
        slots[slot].request = -1
        slots[slot].isParked = false
        freeSlots.append(UInt16(slot))
    }

    /// Whether nothing of a request is under way or to come. One that failed makes no more commands; one that is in
    /// line is looked at again when it leaves it.
    func isOver(_ index: UInt32) -> Bool {
        requests[Int(index)].commands == 0 && isMade(index) && !waiting.holds(index)
    }

    /// What is told of a request that is over; its place is free from now on.
    mutating func take(_ index: UInt32) -> (DeviceOperation, tag: UInt32, DeviceResult, byteCount: UInt64) {
        let place = Int(index)
        active -= 1
        freeRequests.append(index)
        let result: DeviceResult = if let error = requests[place].error { .failed(error) } else { .done }
        return (requests[place].operation, requests[place].tag, result, requests[place].byteCount)
    }

    /// What no command has been made of ends with ECANCELED.
    mutating func cancelWaiting() {
        while let index = waiting.first {
            waiting.removeFirst()
            requests[Int(index)].error = requests[Int(index)].error ?? .canceled
            if requests[Int(index)].commands == 0 { over.append(index) }
        }
    }

    /// The command that has been under way longest, and since when.
    var oldest: (identifier: UInt16, given: UInt32)? {
        var found: (UInt16, UInt32)?
        for slot in slots.indices where slots[slot].request >= 0 && !slots[slot].isParked {
            if found.map({ slots[slot].given < $0.1 }) ?? true { found = (UInt16(slot), slots[slot].given) }
        }
        return found
    }

    /// The controller has forgotten all commands: each is given again.
    mutating func giveAgain() {
        for slot in slots.indices where slots[slot].request >= 0 {
            slots[slot].isParked = false
            slots[slot].given = tick
            rings.push(slots[slot].command, of: slot)
        }
    }

    /// The controller is gone: all that is in flight fails.
    mutating func failAll(_ error: Errno) {
        for slot in slots.indices where slots[slot].request >= 0 {
            let index = UInt32(slots[slot].request)
            requests[Int(index)].error = requests[Int(index)].error ?? error
            free(slot)
            if requests[Int(index)].commands == 0, !waiting.holds(index) { over.append(index) }
        }
        while let index = waiting.first {
            waiting.removeFirst()
            requests[Int(index)].error = requests[Int(index)].error ?? error
            over.append(index)
        }
    }
}
