// A flat device on a bus. The same for every connector: what comes over shares and calls is looked at here.

import DeviceBus
import SharedMemory
import Synchronization

/// Puts a flat device on a bus. Many may open it.
public final class FlatBusDevice: BusDevice {
    /// See `BusDevice.about`.
    public let about: BusDeviceDescription
    private let device: any FlatDevice
    private let log: @Sendable (String) -> Void

    /// - Parameters:
    ///   - name: on its bus.
    ///   - log: gets a line when a driver writes what cannot be; a few of each connection.
    public init(_ device: any FlatDevice, name: String, log: @escaping @Sendable (String) -> Void = { _ in }) {
        self.device = device
        self.log = log
        about = BusDeviceDescription(
            name: name, type: device.layout.type, shares: device.layout.writable.isEmpty ? 1 : 2, servesMany: true)
    }

    /// See `BusDevice.connect`.
    public func connect(_ opening: BusOpening) throws(BusRefusal) -> any BusEndpoint { FlatEndpoint(device, about.name, log) }
}

/// One connection to a flat device.
private final class FlatEndpoint: BusEndpoint {
    private struct State: ~Copyable {
        var writer: StatePageWriter<FlatRecord>?
        var reader: StatePageReader<FlatRecord>?
        var signal: BusSignal?
        var watch: FlatWatch?
        var refusals = 0
        /// Somebody takes what the driver wrote; there is more since.
        var isHearing = false
        var hasMore = false
        var isClosed = false
    }
    private let device: any FlatDevice
    private let name: String
    private let log: @Sendable (String) -> Void
    private let state = Mutex(State())

    /// Lines of one connection; a driver can write nonsense without end.
    private static let mostLines = 4

    init(_ device: any FlatDevice, _ name: String, _ log: @escaping @Sendable (String) -> Void) {
        self.device = device
        self.name = name
        self.log = log
    }

    func share(_ index: Int, _ area: BusArea?, _ signal: BusSignal?) throws(BusRefusal) {
        if let area {
            guard area.byteCount >= FlatShare.byteCount, area.offset % 64 == 0 else {
                throw BusRefusal("a page of \(area.byteCount) bytes at \(area.offset) is too small, or not at a multiple of 64")
            }
        }
        if index == FlatShare.driver {
            guard let area else { throw BusRefusal("the driver's page is a page") }
            return state.withLock { $0.reader = StatePageReader(attaching: area.region, at: area.offset, initial: .empty) }
        }
        guard area?.region.isWritable ?? true else { throw BusRefusal("the device's page cannot be written") }
        // Before the page has its first bytes: a change in between is written twice, and none is missed.
        let watch = device.watchers.watch { [weak self] in self?.changed(tells: true) }
        state.withLock { state in
            state.writer = area.map { StatePageWriter(initialising: $0.region, at: $0.offset) }
            state.signal = signal
            state.watch = watch
        }
        changed(tells: false)
    }

    /// Writes the bytes as they are now, and tells the driver.
    private func changed(tells: Bool) {
        let signal = state.withLock { state -> BusSignal? in
            guard !state.isClosed else { return nil }
            // Under the lock, so that what was read first is not written last.
            state.writer?.write(FlatRecord(device.bytes))
            return state.signal
        }
        if tells { signal?.raise() }
    }

    func signal(_ index: Int) {
        guard index == FlatShare.driver else { return }
        // One at a time, so that what was read first is not taken last; who comes meanwhile leaves word and does not
        // wait, for it may be the device itself that is led back here by what it was told.
        guard
            state.withLock({ state in
                guard !state.isHearing else {
                    state.hasMore = true
                    return false
                }
                state.isHearing = true
                return true
            })
        else { return }
        while true {
            hear()
            let isOver = state.withLock { state in
                state.isHearing = state.hasMore
                state.hasMore = false
                return !state.isHearing
            }
            if isOver { return }
        }
    }

    /// Takes what the driver has written, if it has.
    private func hear() {
        let writable = device.layout.writable
        let (found, bytes) = state.withLock { state -> (StateRefresh, [UInt8]) in
            guard !state.isClosed, let found = state.reader?.refresh() else { return (.unchanged, []) }
            return (found, state.reader?.value.bytes(writable) ?? [])
        }
        switch found {
        case .unchanged: return
        case .contended: tell(.torn(type: device.layout.type))
        case .changed:
            do throws(FlatDeviceError) { try device.write(bytes, at: writable.lowerBound) } catch { tell(error) }
        }
    }

    private func tell(_ refusal: FlatDeviceError) {
        let isTold = state.withLock { state in
            state.refusals = min(state.refusals + 1, Self.mostLines + 1)
            return state.refusals <= Self.mostLines
        }
        if isTold { log("\(name): \(refusal)") }
    }

    func call(_ function: UInt32, _ bytes: [UInt8]) throws(BusRefusal) -> [UInt8] {
        switch function {
        case FlatShare.read where bytes.count == 8:
            let (offset, count) = (Int(bytes.number(at: 0, as: UInt32.self)), Int(bytes.number(at: 4, as: UInt32.self)))
            let all = device.bytes
            return Array(all.dropFirst(offset).prefix(count))
        case FlatShare.write where bytes.count >= 4:
            let offset = Int(bytes.number(at: 0, as: UInt32.self))
            do throws(FlatDeviceError) { try device.write(Array(bytes.dropFirst(4)), at: offset) } catch {
                throw BusRefusal("\(error)")
            }
            return []
        default: throw BusRefusal("no call \(function) with \(bytes.count) bytes")
        }
    }

    func close() {
        let watch = state.withLock { state -> FlatWatch? in
            state.isClosed = true
            state.writer = nil
            state.reader = nil
            state.signal = nil
            return state.watch.take()
        }
        // It takes a lock of the device's.
        _ = consume watch
    }
}
