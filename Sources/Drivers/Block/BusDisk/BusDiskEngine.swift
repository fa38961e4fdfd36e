// The ring under a disk on a bus: slots of memory, each for one operation, and those that wait for one.

import DeviceBus
import LinuxSystem
import SharedMemory
import Synchronization
import VirtioBus
import VirtioRing
import VirtioWire

/// A disk's connection. Its thread has it, as the disk does.
final class BusDiskEngine: Sendable {
    typealias Ended = @Sendable (Result<[UInt8], BusDiskError>) -> Void

    private struct Pending: Sendable {
        var slot: Int
        var readBytes: Int
        let ended: Ended
    }

    private struct State: ~Copyable {
        var ring: SplitDriverRing
        var free: [Int]
        var inFlight: [ChainTicket: Pending] = [:]
        /// The oldest first.
        var waiting: [(BusDiskOperation, Ended)] = []
        /// Why nothing is taken any more.
        var failure: String?
        var chain = DescriptorChain()
    }

    let name: String
    let slotBytes: Int
    let driver: VirtioBusDriver
    private let state: Mutex<State>
    private let shape: Mutex<BlockConfiguration>
    private let slotsStart: Int

    /// Before each slot's data: header, status, and one range of a discard.
    private static let prefixBytes = 512
    private static let statusPlace = 16
    private static let rangePlace = 32

    init(
        _ name: String, _ member: BusMember, _ options: BusDiskOptions, _ closed: @escaping @Sendable (String) -> Void
    ) throws(VirtioDriverError) {
        guard (1...256).contains(options.depth), (512...1 << 20).contains(options.transferBytes), options.transferBytes % 512 == 0
        else { throw .unusable(device: name, "\(options.depth) operations of \(options.transferBytes) bytes at a time") }
        self.name = name
        slotBytes = options.transferBytes
        // Three descriptors an operation: no operation that has a slot lacks room in the ring.
        var size = 4
        while size < 3 * options.depth { size *= 2 }
        slotsStart = VirtioBusDriver.byteCount(size: size)
        let box = EngineBox()
        typealias Block = VirtioFeatures.Block
        driver = try VirtioBusDriver(
            name, type: "virtio-block", on: member,
            byteCount: slotsStart + options.depth * (Self.prefixBytes + options.transferBytes),
            wanted: [
                .eventIndex, Block.readOnly, Block.flush, Block.discard, Block.writeZeroes, Block.blockSize, Block.segmentMax,
            ], needed: .version1,
            closed: { reason in
                box.engine?.fail(reason)
                closed(reason)
            })
        shape = Mutex(BlockConfiguration())
        state = Mutex(State(ring: driver.makeRing(at: 0, size: size), free: Array((0..<options.depth).reversed())))
        box.set(self)
        do throws(VirtioDriverError) {
            try refresh()
            do throws(BusError) { try driver.share(0, at: 0, size: size) } catch { throw VirtioDriverError.bus(error) }
            // It asks to be signalled, which nobody has yet.
            state.withLock { _ = $0.ring.armAndRecheck() }
            do throws(Errno) {
                try driver.wait(name: "disk-\(name)") { [weak self] in self?.reap() }
            } catch { throw VirtioDriverError.system(device: name, error) }
        } catch {
            driver.close()
            throw error
        }
    }

    var configuration: BlockConfiguration { shape.withLock { $0 } }

    func refresh() throws(VirtioDriverError) {
        do throws(BusError) {
            try driver.connection.call(VirtioCall.look)
            let bytes = try driver.configuration(byteCount: BlockConfiguration.byteCount)
            shape.withLock { $0 = BlockConfiguration(WireNumber.array(bytes)) }
        } catch { throw .bus(error) }
    }

    func close(_ reason: String) {
        driver.close()
        fail(reason)
    }

    /// Ends everything that is under way or waits. The device has let go of the memory.
    private func fail(_ reason: String) {
        let left = state.withLock { state -> [Ended] in
            if state.failure == nil { state.failure = reason }
            let left = state.inFlight.values.map(\.ended) + state.waiting.map(\.1)
            state.inFlight = [:]
            state.waiting = []
            return left
        }
        for ended in left { ended(.failure(.lost(disk: name, reason: reason))) }
    }

    // MARK: Operations

    func submit(_ operation: BusDiskOperation, _ ended: @escaping Ended) {
        if let refusal = refusal(of: operation) { return ended(.failure(refusal)) }
        // Every write of such a disk is durable when it has ended.
        var isNothing = false
        if case .flush = operation { isNothing = !driver.features.contains(VirtioFeatures.Block.flush) }
        var failure: String?
        let mustKick = state.withLock { state in
            failure = state.failure
            if failure != nil || isNothing { return false }
            guard !state.free.isEmpty else {
                state.waiting.append((operation, ended))
                return false
            }
            offer(operation, ended, &state)
            return state.ring.publish()
        }
        if let failure { return ended(.failure(.lost(disk: name, reason: failure))) }
        if isNothing { return ended(.success([])) }
        if mustKick { driver.kick(0) }
    }

    private func refusal(of operation: BusDiskOperation) -> BusDiskError? {
        switch operation {
        case .read(let offset, let count): range(offset, UInt64(max(0, count)), most: UInt64(slotBytes))
        case .write(let offset, let bytes): range(offset, UInt64(bytes.count), most: UInt64(slotBytes))
        case .flush: nil
        case .discard(let offset, let count):
            driver.features.contains(VirtioFeatures.Block.discard)
                ? range(offset, count, most: UInt64(configuration.maxDiscardSectors) * 512) : .unsupported(disk: name)
        case .writeZeroes(let offset, let count, _):
            driver.features.contains(VirtioFeatures.Block.writeZeroes)
                ? range(offset, count, most: UInt64(configuration.maxWriteZeroesSectors) * 512) : .unsupported(disk: name)
        }
    }

    private func range(_ offset: UInt64, _ count: UInt64, most: UInt64) -> BusDiskError? {
        guard count > 0, count % 512 == 0, offset % 512 == 0, count <= most else {
            return .refused(disk: name, "\(count) bytes at \(offset); at most \(most), whole sectors of 512")
        }
        return nil
    }

    /// Lays an operation out in a free slot and offers it.
    private func offer(_ operation: BusDiskOperation, _ ended: @escaping Ended, _ state: inout State) {
        guard let slot = state.free.popLast() else { return }
        let region = driver.region
        let place = slotsStart + slot * (Self.prefixBytes + slotBytes)
        let data = place + Self.prefixBytes
        var pending = Pending(slot: slot, readBytes: 0, ended: ended)
        state.chain.removeAll()
        func append(_ kind: BlockRequestKind, _ sector: UInt64) {
            BlockRequestHeader(kind, sector: sector).store(region, at: place)
            state.chain.appendReadable(run(place, BlockRequestHeader.byteCount))
        }
        func appendRange(_ offset: UInt64, _ count: UInt64, _ flags: UInt32) {
            BlockRange(sector: offset / 512, sectorCount: UInt32(clamping: count / 512), flags: flags)
                .store(region, at: place + Self.rangePlace)
            state.chain.appendReadable(run(place + Self.rangePlace, BlockRange.byteCount))
        }
        switch operation {
        case .read(let offset, let count):
            append(.read, offset / 512)
            state.chain.appendWritable(run(data, count))
            pending.readBytes = count
        case .write(let offset, let bytes):
            append(.write, offset / 512)
            region.write(bytes, at: data)
            state.chain.appendReadable(run(data, bytes.count))
        case .flush: append(.flush, 0)
        case .discard(let offset, let count):
            append(.discard, 0)
            appendRange(offset, count, 0)
        case .writeZeroes(let offset, let count, let mayUnmap):
            append(.writeZeroes, 0)
            appendRange(offset, count, mayUnmap && configuration.writeZeroesMayUnmap != 0 ? BlockRange.mayUnmap : 0)
        }
        // Neither of the three: whoever answers has to write.
        region.store(UInt8(0xFF), at: place + Self.statusPlace)
        state.chain.appendWritable(run(place + Self.statusPlace, 1))
        guard let ticket = state.ring.offer(state.chain) else {
            // A slot is free, so there is room: only a ring that is broken says otherwise.
            state.free.append(slot)
            state.waiting.append((operation, ended))
            return
        }
        state.inFlight[ticket] = pending
    }

    private func run(_ offset: Int, _ count: Int) -> GuestRun {
        GuestRun(address: UInt64(offset), byteCount: UInt32(truncatingIfNeeded: count))
    }

    // MARK: The disk's thread

    private func reap() {
        var done: [(Ended, Result<[UInt8], BusDiskError>)] = []
        var broken: String?
        let mustKick = state.withLock { state in
            do throws(VirtqueueError) {
                repeat {
                    while let used = try state.ring.reap() {
                        guard let pending = state.inFlight.removeValue(forKey: used.ticket) else { continue }
                        done.append((pending.ended, outcome(pending)))
                        state.free.append(pending.slot)
                    }
                } while state.ring.armAndRecheck()
            } catch { broken = "\(error)" }
            var count = 0
            while broken == nil, !state.free.isEmpty, count < state.waiting.count {
                let (operation, ended) = state.waiting[count]
                count += 1
                offer(operation, ended, &state)
            }
            state.waiting.removeFirst(count)
            return count > 0 && state.ring.publish()
        }
        if mustKick { driver.kick(0) }
        for (ended, result) in done { ended(result) }
        if let broken { fail("the ring is broken: \(broken)") }
    }

    private func outcome(_ pending: Pending) -> Result<[UInt8], BusDiskError> {
        let place = slotsStart + pending.slot * (Self.prefixBytes + slotBytes)
        // Loaded once: the device may write it again.
        let status: UInt8 = driver.region.load(place + Self.statusPlace)
        switch BlockRequestStatus(rawValue: status) {
        case .okay: return .success(driver.region.bytes(at: place + Self.prefixBytes, count: pending.readBytes))
        case .unsupported: return .failure(.unsupported(disk: name))
        case .failed, nil: return .failure(.failed(disk: name))
        }
    }
}

/// What the bus finds the engine by when the disk is taken away.
private final class EngineBox: Sendable {
    private struct State { weak var engine: BusDiskEngine? }
    private let state = Mutex(State())
    var engine: BusDiskEngine? { state.withLock { $0.engine } }
    func set(_ engine: BusDiskEngine) { state.withLock { $0.engine = engine } }
}
