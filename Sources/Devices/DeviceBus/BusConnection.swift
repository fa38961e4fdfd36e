// A driver's end of a connection: four of the five verbs. What makes no sense is found here, so that a device sees each
// share once, indices that it has, and nothing of a connection that is closed.

import Synchronization

/// A connection of a member to a device. When the last reference goes, it is closed. Any thread.
public final class BusConnection: Sendable {
    /// The device.
    public let device: BusDeviceDescription
    /// The version that was agreed on.
    public let version: UInt32

    private struct State {
        var shared: Set<Int> = []
        /// Why it is closed.
        var reason: String?
    }
    private let state = Mutex(State())
    /// Held for the verbs that come one after another.
    private let control = Mutex(())
    private let endpoint: any BusEndpoint
    private let forget: @Sendable () -> Void
    private let closed: @Sendable (String) -> Void

    init(
        _ device: BusDeviceDescription, version: UInt32, _ endpoint: any BusEndpoint, forget: @escaping @Sendable () -> Void,
        closed: @escaping @Sendable (String) -> Void
    ) {
        self.device = device
        self.version = version
        self.endpoint = endpoint
        self.forget = forget
        self.closed = closed
    }

    deinit { end("its driver let it go", tells: false) }

    /// Shares memory with the device under a number, once for each.
    /// - Parameters:
    ///   - area: what both sides use from now on; nil: nothing, there is only a signal.
    ///   - signal: by what the device tells of changes; nil: it does not.
    public func share(_ index: Int, _ area: BusArea?, signal: BusSignal? = nil) throws(BusError) {
        try control.withLock { (_) throws(BusError) in
            try state.withLock { (state) throws(BusError) in
                try check(state)
                guard index >= 0, index < device.shares else {
                    throw .noSuchShare(index, device: device.name, shares: device.shares)
                }
                guard !state.shared.contains(index) else { throw .sharedTwice(index, device: device.name) }
            }
            guard area?.isPlace ?? true else { throw .noSuchPlace(index, device: device.name) }
            do throws(BusRefusal) { try endpoint.share(index, area, signal) } catch { throw .refused(device.name, error) }
            state.withLock { _ = $0.shared.insert(index) }
        }
    }

    /// Tells the device that there is something in an area. Never blocks.
    public func signal(_ index: Int) throws(BusError) {
        try state.withLock { (state) throws(BusError) in
            try check(state)
            guard state.shared.contains(index) else {
                throw index >= 0 && index < device.shares
                    ? .notShared(index, device: device.name) : .noSuchShare(index, device: device.name, shares: device.shares)
            }
        }
        endpoint.signal(index)
    }

    /// Asks the device something, or sets it; what the numbers mean is the device's.
    @discardableResult
    public func call(_ function: UInt32, _ bytes: [UInt8] = []) throws(BusError) -> [UInt8] {
        try control.withLock { (_) throws(BusError) in
            try state.withLock { (state) throws(BusError) in try check(state) }
            do throws(BusRefusal) { return try endpoint.call(function, bytes) } catch { throw .refused(device.name, error) }
        }
    }

    /// Ends the connection: from its return on the device touches nothing that was shared. Not for a signal's function.
    public func close() { end("its driver closed it", tells: false) }

    /// Why it is closed; nil: it is open.
    public var reason: String? { state.withLock { $0.reason } }

    private func check(_ state: borrowing State) throws(BusError) {
        if let reason = state.reason { throw .closed(device.name, reason: reason) }
    }

    /// Ends it, once; whoever comes second waits until it is over.
    func end(_ reason: String, tells: Bool = true) {
        let isFirst = state.withLock { state in
            guard state.reason == nil else { return false }
            state.reason = reason
            return true
        }
        control.withLock { _ in if isFirst { endpoint.close() } }
        guard isFirst else { return }
        forget()
        if tells { closed(reason) }
    }
}
