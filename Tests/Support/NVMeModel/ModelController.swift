// An NVMe controller in this process: registers, queues and namespaces by the specification, in the thread that rings
// the doorbell. It notes whatever a driver does that the specification forbids, and lies where a test tells it to.

import DMA
import LinuxSystem
import NVMe
import Synchronization

/// What a model is like.
public struct ModelSettings: Sendable {
    /// By number: bytes of a block as a power of two, blocks, bytes of metadata.
    public var namespaces: [UInt32: (shift: Int, blocks: Int, metadata: Int)] = [1: (9, 8192, 0)]
    /// At most 20 characters.
    public var serial = "SERIAL"
    /// The most bytes of a transfer as a power of two above a page; 0: no limit.
    public var transferShift: UInt8 = 7
    /// The most entries of a queue.
    public var queueEntries = 2048
    /// Bytes from one doorbell to the next, as a power of two above 4.
    public var doorbellShift = 0
    /// Interrupt vectors.
    public var vectors = 5
    /// Pairs of queues that it grants, whatever was asked for.
    public var grantedQueues = 64
    /// Whether the firmware left it running.
    public var isRunning = true
    /// Whether it never becomes ready.
    public var neverReady = false
    /// Milliseconds that it takes; counted in looks at CSTS.
    public var looksUntilReady = 2
    /// Whether a flush is needed.
    public var hasCache = true
    /// Whether a doorbell may be rung with its old value: by a successor, who does not know whether it was.
    public var mayRepeatDoorbells = false
    /// Whether each page of what it reaches has a frame of its own.
    public var isScattered = false
    /// Whether it says that it is enabled, whatever it is.
    public var saysEnabled = false
    /// Whether its vector is a line: one, whatever `vectors` says.
    public var isLine = false

    /// One namespace, left running.
    public init() {}
}

/// A controller under a test's control.
public final class ModelController: NVMePort {
    /// See `NVMePort`.
    public let name = "model"
    /// See `NVMePort`.
    public let registerByteCount = 0x4000
    /// What it reaches.
    public let memoryModel: ModelMemory
    /// See `NVMePort`.
    public var memory: any BusAddressSource { memoryModel }
    /// As given.
    public let settings: ModelSettings
    /// See `NVMePort`.
    public var vectorCount: Int { settings.isLine ? 1 : settings.vectors }
    /// See `NVMePort`.
    public var isLine: Bool { settings.isLine }
    let state: Mutex<ModelState>

    /// As the firmware left it.
    public init(_ settings: ModelSettings = ModelSettings()) {
        self.settings = settings
        memoryModel = ModelMemory(isScattered: settings.isScattered)
        state = Mutex(ModelState(settings))
    }

    /// What becomes of each command; asked under the model's lock.
    public func whenCommand(_ body: @escaping @Sendable (ModelCommand) -> ModelAction) { state.withLock { $0.script = body } }

    // MARK: Registers

    /// See `NVMePort`.
    public func load(_ offset: Int) -> UInt32 {
        state.withLock { state in
            if state.isGone { return .max }
            switch offset {
            case 0x00: return UInt32(settings.queueEntries - 1) | 1 << 16 | 4 << 24
            case 0x04: return UInt32(settings.doorbellShift) | 1 << 5 | 4 << 20
            case 0x08: return 0x10400
            case 0x14: return state.configuration | (settings.saysEnabled ? 1 : 0)
            case 0x1C: return state.status()
            case 0x24: return state.adminQueues
            case 0x28: return UInt32(truncatingIfNeeded: state.adminSubmission)
            case 0x2C: return UInt32(truncatingIfNeeded: state.adminSubmission >> 32)
            default: return 0
            }
        }
    }

    /// See `NVMePort`.
    public func store(_ value: UInt32, at offset: Int) {
        let events = state.withLock { state in
            if state.isGone { return [Descriptor]() }
            switch offset {
            case 0x14: state.configure(value)
            case 0x24: state.adminQueues = value
            case 0x28: state.adminSubmission = state.adminSubmission & ~0xFFFF_FFFF | UInt64(value)
            case 0x2C: state.adminSubmission = state.adminSubmission & 0xFFFF_FFFF | UInt64(value) << 32
            case 0x30: state.adminCompletion = state.adminCompletion & ~0xFFFF_FFFF | UInt64(value)
            case 0x34: state.adminCompletion = state.adminCompletion & 0xFFFF_FFFF | UInt64(value) << 32
            case 0x1000...: state.doorbell(offset, value, memoryModel)
            default: state.violations.append("store to register 0x\(String(offset, radix: 16))")
            }
            return state.takeRaised()
        }
        for event in events { event.addCount(1) }
    }

    /// See `NVMePort`.
    public func openVectors(_ count: Int) throws(NVMeError) -> [Descriptor] {
        let events = (0..<count).compactMap { _ in try? EventCounter().descriptor }
        state.withLock { state in
            if state.configuration & 1 != 0 { state.violations.append("vectors set while it runs") }
            state.events = events
        }
        return events
    }

    /// See `NVMePort`.
    public func takeInterrupt(_ vector: Descriptor) { vector.takeCount() }

    /// See `NVMePort`.
    public func armInterrupt() {
        let events = state.withLock { state in
            state.arm()
            return state.takeRaised()
        }
        for event in events { event.addCount(1) }
    }

    /// See `NVMePort`.
    public func cutOff() { state.withLock { $0.isCutOff = true } }

    /// See `NVMePort`.
    public func reconnect() {
        state.withLock { state in
            if state.configuration & 1 != 0 { state.violations.append("let at memory while it runs") }
            state.isCutOff = false
        }
    }

    // MARK: What a test sees and does

    /// Whether a line would be told of.
    public var isLineArmed: Bool { state.withLock { !$0.isSilent } }
    /// How often a line was told of, and how often it was armed while a completion stood there that nobody had
    /// acknowledged.
    public var lineCounts: (told: Int, early: Int) { state.withLock { ($0.told, $0.early) } }

    /// What the driver did that it must not do.
    public var violations: [String] { state.withLock { $0.violations } + memoryModel.faults }
    /// Whether it was kept from memory.
    public var isCutOff: Bool { state.withLock { $0.isCutOff } }
    /// Whether it was told to shut down since it was enabled last.
    public var wasShutDown: Bool { state.withLock { $0.wasShutDown } }
    /// Whether it runs.
    public var isEnabled: Bool { state.withLock { $0.configuration & 1 != 0 } }
    /// How often it was enabled.
    public var starts: Int { state.withLock { $0.starts } }
    /// Commands seen on I/O queues.
    public var commands: [ModelCommand] { state.withLock { $0.seen.filter(\.isIO) } }
    /// The admin queue's.
    public var adminCommands: [ModelCommand] { state.withLock { $0.seen.filter { !$0.isIO } } }
    /// Commands held.
    public var held: [ModelCommand] { state.withLock { $0.held } }
    /// I/O queues that there are.
    public var queueCount: Int { state.withLock { $0.submission.count } - 1 }
    /// A namespace's bytes.
    public func contents(_ namespace: UInt32) -> [UInt8] { state.withLock { $0.storage[namespace] ?? [] } }

    /// It loses its power.
    public func vanish() { state.withLock { $0.isGone = true } }
    /// It has power again, and stands as after a reset.
    public func returnPower() { state.withLock { $0.powerUp() } }
    /// It has another serial number from now on.
    public func rename(_ serial: String) { state.withLock { $0.settings.serial = serial } }
    /// A namespace has so many blocks from now on.
    public func resize(_ namespace: UInt32, blocks: Int) { state.withLock { $0.resize(namespace, blocks) } }
    /// It says that it has failed.
    public func fail() { state.withLock { $0.hasFailed = true } }

    /// Performs and completes what is held, the last first if so asked, and without an interrupt.
    public func finish(reversed: Bool = false, quietly: Bool = false) {
        raising { state in
            let commands = reversed ? state.held.reversed() : state.held
            state.held = []
            for command in commands { state.perform(command, memoryModel, quietly: quietly) }
        }
    }

    /// Writes a completion that is of no command, or of one for the second time.
    public func lie(queue: Int = 1, identifier: UInt16, status: UInt16 = 0) {
        raising { $0.complete(queue, identifier, status, 0, memoryModel, quietly: false) }
    }

    /// Fills a completion queue's memory with what is neither phase's.
    public func scribble(queue: Int = 1) {
        raising { state in
            guard let place = state.completion[queue] else { return }
            for entry in 0..<place.size {
                memoryModel.write(
                    [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0x55, 0x55, 0x55, 0x55, 0x55, 0xAA, 0x01, 0x00],
                    at: place.base + UInt64(entry * 16))
            }
            state.raise(place.vector)
        }
    }

    /// Nothing happens in it meanwhile.
    func whileStill<R: Sendable>(_ body: @Sendable (ModelMemory) -> R) -> R { state.withLock { _ in body(memoryModel) } }

    private func raising(_ body: (inout ModelState) -> Void) {
        let events = state.withLock { state in
            body(&state)
            return state.takeRaised()
        }
        for event in events { event.addCount(1) }
    }
}
