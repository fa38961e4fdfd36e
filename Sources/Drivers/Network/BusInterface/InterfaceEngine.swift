// The two rings under an interface on a bus: 0 receives, 1 sends. Each of their slots is memory for one frame with its
// header.

import DeviceBus
import LinuxSystem
import SharedMemory
import Synchronization
import VirtioBus
import VirtioRing
import VirtioWire

/// An interface's connection. Its thread has it, as the interface does.
final class InterfaceEngine: Sendable {
    private struct State: ~Copyable {
        var receiving: SplitDriverRing
        var sending: SplitDriverRing
        /// Slots of memory for frames that come, by what they were given under.
        var given: [ChainTicket: Int] = [:]
        var sent: [ChainTicket: Int] = [:]
        var free: [Int]
        var failure: String?
        var chain = DescriptorChain()
    }

    let name: String
    private let driver: VirtioBusDriver
    private let state: Mutex<State>
    private let received: @Sendable ([UInt8]) -> Void
    private let slotBytes: Int
    private let receiveStart: Int
    private let sendStart: Int
    private let mostBytes: Int

    /// Of Ethernet, with a VLAN's tag.
    private static let frameHeader = 18
    private static let receiveRing = 0
    private static let sendRing = 1

    init(
        _ name: String, _ member: BusMember, _ options: BusInterfaceOptions, _ received: @escaping @Sendable ([UInt8]) -> Void,
        _ closed: @escaping @Sendable (String) -> Void
    ) throws(VirtioDriverError) {
        guard (1...256).contains(options.depth), (68...65535).contains(options.mtu) else {
            throw .unusable(device: name, "\(options.depth) frames at a time, an MTU of \(options.mtu)")
        }
        self.name = name
        self.received = received
        mostBytes = options.mtu + Self.frameHeader
        slotBytes = (NetworkHeader.byteCount + mostBytes + 63) & ~63
        // A descriptor a frame.
        var size = 1
        while size < options.depth { size *= 2 }
        let ringBytes = VirtioBusDriver.byteCount(size: size)
        receiveStart = 2 * ringBytes
        sendStart = receiveStart + options.depth * slotBytes
        let box = EngineBox()
        // No offloads: frames are whole, their checksums right.
        driver = try VirtioBusDriver(
            name, type: "virtio-network", on: member, byteCount: sendStart + options.depth * slotBytes, wanted: .eventIndex,
            needed: .version1,
            closed: { reason in
                box.engine?.fail(reason)
                closed(reason)
            })
        state = Mutex(
            State(
                receiving: driver.makeRing(at: 0, size: size), sending: driver.makeRing(at: ringBytes, size: size),
                free: Array((0..<options.depth).reversed())))
        box.set(self)
        do throws(VirtioDriverError) {
            state.withLock { state in
                for slot in 0..<options.depth { give(slot, &state) }
                _ = state.receiving.publish()
                _ = state.receiving.armAndRecheck()
            }
            do throws(BusError) {
                try driver.share(Self.receiveRing, at: 0, size: size)
                try driver.share(Self.sendRing, at: ringBytes, size: size)
            } catch { throw VirtioDriverError.bus(error) }
            do throws(Errno) { try driver.wait(name: "net-\(name)") { [weak self] in self?.reap() } } catch {
                throw VirtioDriverError.system(device: name, error)
            }
        } catch {
            driver.close()
            throw error
        }
    }

    func close(_ reason: String) {
        driver.close()
        fail(reason)
    }

    private func fail(_ reason: String) { state.withLock { if $0.failure == nil { $0.failure = reason } } }

    /// Lends the device memory for one frame.
    private func give(_ slot: Int, _ state: inout State) {
        state.chain.removeAll()
        state.chain.appendWritable(run(receiveStart + slot * slotBytes, slotBytes))
        // One descriptor for each slot, so there is room unless the ring is broken.
        if let ticket = state.receiving.offer(state.chain) { state.given[ticket] = slot }
    }

    private func run(_ offset: Int, _ count: Int) -> GuestRun {
        GuestRun(address: UInt64(offset), byteCount: UInt32(truncatingIfNeeded: count))
    }

    func send(_ frame: [UInt8]) throws(BusInterfaceError) {
        guard (14...mostBytes).contains(frame.count) else {
            throw .badFrame(interface: name, byteCount: frame.count, most: mostBytes)
        }
        let mustKick = try state.withLock { (state) throws(BusInterfaceError) in
            if let failure = state.failure { throw .lost(interface: name, reason: failure) }
            if state.free.isEmpty { reclaim(&state) }
            guard let slot = state.free.popLast() else { throw .full(interface: name) }
            let place = sendStart + slot * slotBytes
            NetworkHeader().store(driver.region, at: place)
            driver.region.write(frame, at: place + NetworkHeader.byteCount)
            state.chain.removeAll()
            state.chain.appendReadable(run(place, NetworkHeader.byteCount + frame.count))
            guard let ticket = state.sending.offer(state.chain) else {
                state.free.append(slot)
                throw .full(interface: name)
            }
            state.sent[ticket] = slot
            return state.sending.publish()
        }
        if mustKick { driver.kick(Self.sendRing) }
    }

    /// Takes back what was sent. Nobody is signalled of that: memory is wanted only when there is something to send.
    private func reclaim(_ state: inout State) {
        do throws(VirtqueueError) {
            while let used = try state.sending.reap() {
                if let slot = state.sent.removeValue(forKey: used.ticket) { state.free.append(slot) }
            }
        } catch { state.failure = "the ring is broken: \(error)" }
    }

    // MARK: The interface's thread

    private func reap() {
        var frames: [[UInt8]] = []
        let mustKick = state.withLock { state in
            var taken = false
            do throws(VirtqueueError) {
                repeat {
                    while let used = try state.receiving.reap() {
                        guard let slot = state.given.removeValue(forKey: used.ticket) else { continue }
                        taken = true
                        let count = min(Int(used.written), slotBytes) - NetworkHeader.byteCount
                        if count > 0 {
                            frames.append(
                                driver.region.bytes(at: receiveStart + slot * slotBytes + NetworkHeader.byteCount, count: count))
                        }
                        give(slot, &state)
                    }
                } while state.receiving.armAndRecheck()
            } catch { state.failure = "the ring is broken: \(error)" }
            return taken && state.receiving.publish()
        }
        if mustKick { driver.kick(Self.receiveRing) }
        for frame in frames { received(frame) }
    }
}

/// What the bus finds the engine by when the interface is taken away.
private final class EngineBox: Sendable {
    private struct State { weak var engine: InterfaceEngine? }
    private let state = Mutex(State())
    var engine: InterfaceEngine? { state.withLock { $0.engine } }
    func set(_ engine: InterfaceEngine) { state.withLock { $0.engine = engine } }
}
