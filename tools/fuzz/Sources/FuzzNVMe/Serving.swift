// One pair of queues: a driver's requests, and a controller that serves them or lies.

import BlockDevices
import DMA
import FuzzSupport
import LinuxSystem
import SharedMemory

@testable import NVMe
@testable import NVMeModel

/// Hears doorbells; has nothing else.
private final class Bells: NVMePort {
    let name = "fuzz"
    let registerByteCount = 0x4000
    let memory: any BusAddressSource
    let vectorCount = 1
    let isLine = false
    // One thread.
    nonisolated(unsafe) var tail = 0
    nonisolated(unsafe) var head = 0
    init(_ memory: ModelMemory) { self.memory = memory }
    func load(_ offset: Int) -> UInt32 { 1 }
    func store(_ value: UInt32, at offset: Int) {
        switch offset {
        case 0x1008: tail = Int(value)
        case 0x100C: head = Int(value)
        default: fatalError("a store at \(offset)")
        }
    }
    func openVectors(_ count: Int) -> [Descriptor] { [] }
    func takeInterrupt(_ vector: Descriptor) {}
    func armInterrupt() {}
    func cutOff() {}
    func reconnect() {}
}

private let dataPages = 40
private let data = made { try SharedRegion(anonymous: dataPages * 4096) }
private let queueMemory = made { try SharedRegion(anonymous: QueueRings.byteCount(lists: QueueRings.mostCommands)) }

func serve(_ shape: UInt8, _ input: inout ByteReader) {
    queueMemory.fill(0, count: 2 * 4096)
    var serving = Serving(shape)
    while !input.isAtEnd, !serving.isLost { serving.step(&input) }
    serving.end()
}

/// Both sides of a pair of queues.
private struct Serving: ~Copyable {
    private let memory: ModelMemory
    private let bells: Bells
    private let bus = MemoryBus()
    private let base: BusAddress
    private var state: NVMeQueueState
    private let rules: Rules
    private let entries: (submission: Int, completion: Int)
    private var asked: [UInt32: AskedRequest] = [:]
    private var nextTag: UInt32 = 0
    // The controller's side.
    private var head = 0
    private var (place, phase) = (0, true)
    private var atController: [ModelCommand] = []
    /// What may be given again as it was.
    private var again: [UInt16: ModelCommand] = [:]
    /// The last command of each name.
    private var last: [UInt16: ModelCommand] = [:]
    /// Requests of which a command has failed, and the driver has not looked: a reset takes that back.
    private var failed: [UInt32] = []
    private var hasLied = false
    private(set) var isLost = false

    init(_ shape: UInt8) {
        memory = ModelMemory(isScattered: shape & 1 != 0)
        bells = Bells(memory)
        require(bus.takeAddresses(from: memory), "no addresses")
        let shift: UInt8 = shape & 2 != 0 ? 12 : 9
        let size = [2, 3, 8, 64, 2048, 64, 5, 2048][Int(shape >> 2) & 7]
        var page = [UInt8](repeating: 0, count: 4096)
        for byte in 0..<8 { page[byte] = UInt8(truncatingIfNeeded: UInt64(1 << 40) >> UInt64(byte * 8)) }
        page[130] = shift
        let identity = made { try NVMeNamespaceIdentity(7, page) }
        guard let pages = memory.place(queueMemory)?.pageAddresses(queueMemory.pageCount) else { fatalError("no place") }
        let rings = QueueRings(
            1, NVMeCapabilities(rawValue: UInt64(size - 1) | 1 << 16 | 1 << 37), QueueMemory(region: queueMemory, pages: pages))
        entries = (rings.submissionEntries, rings.completionEntries)
        let most = [UInt64(4096), 8192, 65536, PageList.mostBytes][Int(shape >> 5) & 3]
        state = NVMeQueueState(rings, identity, mostBytes: most)
        rules = Rules(namespace: 7, shift: UInt64(shift), mostBytes: most)
        base = bus.attach(data)
    }

    mutating func step(_ input: inout ByteReader) {
        let choice = input.byte()
        switch choice & 15 {
        case 0...4: submit(&input)
        case 5...8: complete(&input)
        case 9: lie(&input)
        case 10: scribble(&input)
        case 11: cancel()
        case 12: reset()
        case 13: state.tick &+= 1
        case 14: unpark()
        default: break
        }
        if choice & 16 == 0 { drain() }
        state.rings.ring(bells)
        hear()
    }

    // MARK: The driver

    private mutating func submit(_ input: inout ByteReader) {
        let kind = input.byte()
        let block = UInt64(1) << rules.shift
        let offset = UInt64(input.number(UInt16.self)) * block
        let (operation, segments): (DeviceOperation, [BusSegment]) =
            switch kind & 7 {
            case 0: (.flush, [])
            case 1: (.discard(offset: offset, byteCount: (UInt64(input.number(UInt32.self)) + 1) * block, secure: false), [])
            case 2:
                (
                    .writeZeroes(
                        offset: offset, byteCount: (UInt64(input.byte()) * 3 + 1) * block, mayUnmap: kind & 8 != 0), []
                )
            case 3, 4: (.read(offset: offset), pieces(&input))
            default: (.write(offset: offset, isDurable: kind & 8 != 0), pieces(&input))
            }
        let total = segments.reduce(UInt64(0)) { $0 + UInt64($1.byteCount) }
        // What the queue refuses before it comes here.
        if case .read = operation, total == 0 || total & (block - 1) != 0 { return }
        if case .write = operation, total == 0 || total & (block - 1) != 0 { return }
        nextTag += 1
        var told: [DeviceSegment] = []
        for segment in segments {
            require(bus.isPlaced(segment, .fromDevice), "a segment that is not there")
            bus.tell(segment, to: &told)
        }
        asked[nextTag] = AskedRequest(operation: operation, segments: told, byteCount: total)
        let index = state.begin(operation, tag: nextTag, segments.span, on: bus, byteCount: total)
        state.waiting.append(index)
        issue()
    }

    private func pieces(_ input: inout ByteReader) -> [BusSegment] {
        (0..<Int(input.byte() & 15)).map { _ in
            let (start, count) = (Int(input.number(UInt16.self)), Int(input.number(UInt16.self)))
            // Multiples of four, which is looked at before; often of a page.
            let offset = (start & 1 == 0 ? start / 4 * 4 : start / 4096 * 4096) % data.byteCount
            let most = min(data.byteCount - offset, 1 << 16)
            let bytes = max(4, min(most, count & 1 == 0 ? count / 4 * 4 : count / 512 * 512))
            guard let address = base.advanced(by: UInt64(offset)) else { fatalError("no address") }
            return BusSegment(address: address, byteCount: UInt32(bytes))
        }
    }

    private mutating func issue() {
        while let index = state.waiting.first {
            if !state.isMade(index) {
                guard state.hasRoom else { return }
                state.issueNext(index)
                continue
            }
            state.waiting.removeFirst()
            if state.isOver(index) { state.over.append(index) }
        }
    }

    private mutating func drain() {
        for tag in failed { asked[tag]?.isGood = false }
        failed = []
        var count = 0
        while count < entries.completion, let completion = state.rings.next() {
            count += 1
            guard state.settle(completion) else {
                require(hasLied, "completion \(completion) was taken for a lie")
                isLost = true
                state.failAll(.ioError)
                return endRequests()
            }
        }
        if count > 0 {
            state.rings.acknowledge(bells)
            issue()
        }
        endRequests()
    }

    private mutating func endRequests() {
        while let index = state.over.popLast() {
            let (operation, tag, result, _) = state.take(index)
            if let flight = state.requests[Int(index)].flight.take() { bus.endFlight(flight) }
            guard let request = asked.removeValue(forKey: tag) else { fatalError("request \(tag) ended twice") }
            require(operation == request.operation, "request \(tag) is another one")
            guard !hasLied, result == .done else { continue }
            let wanted =
                switch request.operation {
                case .flush: UInt64(0)
                case .read, .write: request.byteCount
                case .discard(_, let count, _), .writeZeroes(_, let count, _): count
                }
            require(request.isGood && request.issued == wanted && request.commands > 0, "request \(tag) ended well: \(request)")
        }
    }

    private mutating func cancel() {
        state.cancelWaiting()
        endRequests()
    }

    private mutating func unpark() { state.unpark() }

    private mutating func reset() {
        state.rings.clear()
        (head, place, phase) = (0, 0, true)
        (bells.tail, bells.head) = (0, 0)
        // Also what had ended, and was not looked at.
        for slot in state.slots.indices where state.slots[slot].request >= 0 { again[UInt16(slot)] = last[UInt16(slot)] }
        (atController, failed) = ([], [])
        state.giveAgain()
        issue()
    }

    // MARK: The controller

    /// Takes what it was told of.
    private mutating func hear() {
        require(bells.tail < entries.submission, "tail \(bells.tail)")
        while head != bells.tail {
            let command = ModelCommand(queue: 1, queueMemory.bytes(at: head * 64, count: 64))
            head = (head + 1) % entries.submission
            let name = command.identifier
            // A completion that was a lie may have freed its name.
            if hasLied {
                atController.removeAll { $0.identifier == name }
            } else {
                require(!atController.contains { $0.identifier == name }, "command \(name) twice")
            }
            require(Int(name) < entries.submission - 1, "command \(name)")
            if let known = again.removeValue(forKey: name), !hasLied {
                require(same(known, command), "\(command) given again for \(known)")
            } else if !hasLied {
                let index = state.slots[Int(name)].request
                require(index >= 0, "command \(name) of no request")
                let tag = state.requests[Int(index)].tag
                guard var request = asked[tag] else { fatalError("command \(name) of request \(tag), which has ended") }
                rules.check(command, &request) { memory.read($0, $1) }
                asked[tag] = request
            }
            atController.append(command)
            last[name] = command
        }
        require(memory.faults.isEmpty, "\(memory.faults)")
    }

    private func same(_ one: ModelCommand, _ other: ModelCommand) -> Bool {
        one.opcode == other.opcode && one.prp1 == other.prp1 && one.prp2 == other.prp2 && one.words == other.words
            && one.namespace == other.namespace
    }

    private var isFull: Bool { (place + 1) % entries.completion == bells.head }

    private mutating func put(_ identifier: UInt16, _ status: UInt16) {
        let word = UInt32(identifier) | (phase ? 1 << 16 : 0) | UInt32(status & 0x7FFF) << 17
        queueMemory.storeReleasing(word, at: 4096 + place * 16 + 12)
        place += 1
        if place == entries.completion {
            place = 0
            phase.toggle()
        }
    }

    private mutating func complete(_ input: inout ByteReader) {
        let choice = Int(input.byte())
        let statuses: [UInt16] = [0, 0, 0, 0, 0x281, 0x4281, 0x0881, 0x4002]
        let status = statuses[Int(input.byte() & 7)]
        guard !atController.isEmpty, !isFull else { return }
        finish(choice % atController.count, status)
    }

    private mutating func finish(_ index: Int, _ status: UInt16) {
        let command = atController.remove(at: index)
        let name = command.identifier
        let slot = state.slots[Int(name)]
        let isAgain = NVMeStatus(rawValue: status).mayRetry && slot.retries < NVMeQueueState.mostRetries
        if isAgain {
            again[name] = command
        } else if status != 0, slot.request >= 0 {
            failed.append(state.requests[Int(slot.request)].tag)
        }
        put(name, status)
    }

    private mutating func lie(_ input: inout ByteReader) {
        let (name, status) = (input.number(UInt16.self), input.number(UInt16.self))
        guard !isFull else { return }
        hasLied = true
        put(name & 0x100 == 0 ? name & 63 : name, status)
    }

    private mutating func scribble(_ input: inout ByteReader) {
        let entry = Int(input.byte()) % entries.completion
        hasLied = true
        queueMemory.write(input.take(16), at: 4096 + entry * 16)
    }

    // MARK: The end

    /// All that is under way ends; a controller that has lied is given up.
    mutating func end() {
        var rounds = 0
        while !hasLied, !asked.isEmpty {
            rounds += 1
            require(rounds < 100_000, "requests that never end: \(asked)")
            while !atController.isEmpty, !isFull { finish(0, 0) }
            drain()
            unpark()
            state.rings.ring(bells)
            hear()
        }
        state.failAll(.ioError)
        endRequests()
        require(asked.isEmpty && state.active == 0 && state.commands == 0, "left: \(asked)")
        bus.detach(data)
    }
}
