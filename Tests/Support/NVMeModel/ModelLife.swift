// A driver's process, as the model controller sees it: one that can be killed at any store. What outlives it is copied
// at that moment, so that nothing that the killed one still does is seen by anybody.

import DMA
import LinuxSystem
import NVMe
import SharedMemory
import Synchronization

/// The way to a model controller of one process, which keeps what another needs.
public final class ModelLife: NVMePort, NVMeKeeping {
    private struct State {
        var regions: [String: SharedRegion] = [:]
        var vectors: [Descriptor] = []
        var isDead = false
        var isLeaving = false
        var steps = 0
        var killAt = Int.max
        var whenKilled: (@Sendable () -> Void)?
    }
    /// The controller.
    public let model: ModelController
    /// See `NVMeKeeping`.
    public let isLeft: Bool
    /// See `NVMeKeeping`.
    public let ledger: SharedRegion
    private let state: Mutex<State>
    private let way: LifeMemory

    /// The first process.
    public init(_ model: ModelController) throws(Errno) {
        self.model = model
        isLeft = false
        ledger = try SharedRegion(anonymous: NVMeLedger.byteCount)
        way = LifeMemory(model.memoryModel)
        state = Mutex(State())
    }

    /// The one after a process that was killed.
    public init(after predecessor: ModelLife) {
        model = predecessor.model
        isLeft = true
        let left = predecessor.state.withLock { $0 }
        precondition(left.isDead || left.isLeaving, "a successor of a process that lives")
        ledger = predecessor.grave.withLock { $0 } ?? predecessor.ledger
        way = LifeMemory(model.memoryModel)
        var state = State()
        (state.regions, state.vectors) = (left.regions, left.vectors)
        self.state = Mutex(state)
    }

    /// The ledger as it was when this process was killed.
    private let grave = Mutex<SharedRegion?>(nil)

    // MARK: Its death

    /// Steps so far: stores that a successor may find to be the last.
    public var steps: Int { state.withLock { $0.steps } }
    /// Whether it was killed.
    public var isDead: Bool { state.withLock { $0.isDead } }

    /// It is killed at this step, and `then` is called in its place.
    public func kill(at step: Int, then: @escaping @Sendable () -> Void = {}) {
        state.withLock { ($0.killAt, $0.whenKilled) = (step, then) }
    }

    private func step() {
        let then = state.withLock { state -> (@Sendable () -> Void)? in
            state.steps += 1
            return state.steps >= state.killAt && !state.isDead ? state.whenKilled : nil
        }
        guard let then else { return }
        kill()
        then()
    }

    /// It is killed now. What outlives it is what it is at this moment.
    public func kill() {
        let regions = state.withLock { state -> [String: SharedRegion] in
            if state.isDead { return [:] }
            state.isDead = true
            return state.regions
        }
        way.end()
        guard let copy = Self.copy(ledger) else { return }
        grave.withLock { $0 = copy }
        // While the controller writes nothing.
        let copies = model.whileStill { memory in
            var copies: [String: SharedRegion] = [:]
            for (name, region) in regions {
                guard let copy = Self.copy(region) else { continue }
                memory.replace(region, by: copy)
                copies[name] = copy
            }
            return copies
        }
        state.withLock { $0.regions = copies }
    }

    private static func copy(_ region: SharedRegion) -> SharedRegion? {
        guard let copy = try? SharedRegion(anonymous: region.byteCount) else { return nil }
        copy.copy(from: region, 0, count: region.byteCount, to: 0)
        return copy
    }

    // MARK: NVMePort

    /// See `NVMePort`.
    public var name: String { model.name }
    /// See `NVMePort`.
    public var registerByteCount: Int { model.registerByteCount }
    /// See `NVMePort`.
    public var memory: any BusAddressSource { way }
    /// See `NVMePort`.
    public var vectorCount: Int { model.vectorCount }
    /// See `NVMePort`.
    public var keeping: (any NVMeKeeping)? { self }
    /// See `NVMePort`. A dead process's registers read as nothing.
    public func load(_ offset: Int) -> UInt32 { isDead ? .max : model.load(offset) }
    /// See `NVMePort`.
    public func store(_ value: UInt32, at offset: Int) {
        step()
        if !isDead { model.store(value, at: offset) }
        step()
    }
    /// See `NVMePort`.
    public func openVectors(_ count: Int) throws(NVMeError) -> [Descriptor] {
        let left = vectors
        if left.count == count { return left }
        let vectors = try model.openVectors(count)
        state.withLock { $0.vectors = vectors }
        return vectors
    }
    /// See `NVMePort`.
    public var isLine: Bool { model.isLine }
    /// See `NVMePort`.
    public func takeInterrupt(_ vector: Descriptor) { vector.takeCount() }
    /// See `NVMePort`.
    public func armInterrupt() { if !isDead { model.armInterrupt() } }
    /// See `NVMePort`.
    public func cutOff() { if !isDead { model.cutOff() } }

    /// See `NVMePort`.
    public func reconnect() { if !isDead { model.reconnect() } }

    // MARK: NVMeKeeping

    /// See `NVMeKeeping`.
    public var vectors: [Descriptor] { state.withLock { $0.vectors } }
    /// See `NVMeKeeping`.
    public func memory(_ name: String, byteCount: Int) throws(Errno) -> SharedRegion {
        let region = try SharedRegion(anonymous: byteCount)
        state.withLock { if !$0.isDead { $0.regions[name] = region } }
        return region
    }
    /// See `NVMeKeeping`.
    public func left(_ name: String, byteCount: Int) -> SharedRegion? { state.withLock { $0.regions[name] } }
    /// See `NVMeKeeping`.
    public func release(_ name: String) { state.withLock { if !$0.isDead { $0.regions[name] = nil } } }
    /// See `NVMeKeeping`.
    public func forgetMappings() throws(NVMeError) { if !isDead { model.memoryModel.forget() } }
    /// See `NVMeKeeping`.
    public func releaseAll() {
        state.withLock { state in
            if state.isDead { return }
            (state.regions, state.vectors) = ([:], [])
        }
    }
    /// See `NVMeKeeping`.
    public var isLeaving: Bool { state.withLock { $0.isLeaving } }
    /// See `NVMeKeeping`.
    public func leave() { state.withLock { $0.isLeaving = true } }
    /// See `NVMeKeeping`.
    public var observer: (@Sendable () -> Void)? { { [weak self] in self?.step() } }
    /// What was kept by this name is lost.
    public func forget(_ name: String) { state.withLock { $0.regions[name] = nil } }
    /// Names of what is kept.
    public var keptNames: [String] { state.withLock { $0.regions.keys.sorted() } }
}

/// The model's memory, until its process has died.
private final class LifeMemory: BusAddressSource {
    private let model: ModelMemory
    private let isOver = Atomic<Bool>(false)

    init(_ model: ModelMemory) { self.model = model }

    func end() { isOver.store(true, ordering: .sequentiallyConsistent) }

    func place(_ region: SharedRegion, machine: () -> [UInt64]?) -> BusPlacement? {
        isOver.load(ordering: .sequentiallyConsistent) ? nil : model.place(region, machine: machine)
    }

    func remove(_ region: SharedRegion) { if !isOver.load(ordering: .sequentiallyConsistent) { model.remove(region) } }
}
