// A driver is killed, what it left is changed, and another one comes.

import DMA
import FuzzSupport
import LinuxSystem
import SharedMemory
import Synchronization

@testable import NVMe
@testable import NVMeModel

/// A clock that goes on when somebody sleeps.
private final class SleepersClock: TimeSource {
    private let now = Atomic<UInt64>(3_600_000_000_000)
    var nanoseconds: UInt64 { now.load(ordering: .relaxed) }
    var calendarNanoseconds: UInt64 { nanoseconds }
    // Coarse: what is waited for here comes at once or never.
    func sleep(nanoseconds: UInt64) { now.wrappingAdd(max(nanoseconds, 500_000_000), ordering: .relaxed) }
    func kernelDeadline(milliseconds: Int) -> UInt64 { nanoseconds }
}

func leave(_ shape: UInt8, _ input: inout ByteReader) {
    var settings = ModelSettings()
    settings.namespaces = [1: (shape & 1 == 0 ? 9 : 12, 64, 0)]
    settings.mayRepeatDoorbells = true
    settings.vectors = 3
    let model = ModelController(settings)
    let clock = SleepersClock()
    let life = made { try ModelLife(model) }
    killed(life, clock, &input)
    // Whatever it is: a ledger that the next one can read, with what the input says in it; and the queues' memory.
    let next = ModelLife(after: life)
    while !input.isAtEnd {
        let (choice, offset, byte) = (input.byte(), input.number(UInt16.self), input.byte())
        switch choice & 3 {
        case 0, 1:
            // The set-up's words, or a pair's.
            let start = choice & 4 == 0 ? 0 : next.ledger.byteCount / 2
            let place = (start + Int(offset)) % next.ledger.byteCount
            next.ledger.write([byte], at: place)
        case 2:
            let names = next.keptNames
            guard !names.isEmpty, let region = next.left(names[Int(choice >> 2) % names.count], byteCount: 0) else { continue }
            region.write([byte], at: Int(offset) % region.byteCount)
        default:
            let names = next.keptNames
            if choice >> 2 == 63, !names.isEmpty { next.forget(names[Int(byte) % names.count]) }
        }
    }
    let lines = Mutex<[String]>([])
    do throws(NVMeError) {
        let controller = try NVMeController(next, time: clock) { line in lines.withLock { $0.append(line) } }
        _ = try NVMeDisk(controller, namespace: nil, name: "fuzz")
        // Gone on with, or reset: it said which.
        require(lines.withLock { !$0.isEmpty }, "a driver that went on, or did not, and said nothing")
    } catch {
        // A page of the admin queue that was scribbled over may say anything; a word for it there is.
        require(!"\(error)".isEmpty, "no word")
    }
}

/// A driver that has a pair of queues and some commands under way when it ends.
private func killed(_ life: ModelLife, _ clock: SleepersClock, _ input: inout ByteReader) {
    let controller = made { try NVMeController(life, time: clock) { _ in } }
    let disk = made { try NVMeDisk(controller, namespace: nil, name: "fuzz") }
    guard let number = controller.takeQueue() else { fatalError("no queue") }
    let ledger = controller.ledger?.queue(number)
    ledger?.blockShift = UInt32(disk.namespace.blockShift)
    let memory = made { try controller.memory(ofQueue: number) }
    let rings = QueueRings(number, controller.capabilities, memory, ledger: ledger)
    made { try controller.create(rings.place) }
    var state = NVMeQueueState(rings, disk.namespace, mostBytes: controller.transferByteCount)
    for _ in 0..<Int(input.byte() & 7) {
        let index = state.begin(.flush, tag: 1, Span(), on: MemoryBus(), byteCount: 0)
        state.issueNext(index)
    }
    state.rings.ring(life)
    life.kill()
    controller.giveUp("killed", mayReturn: false)
}
