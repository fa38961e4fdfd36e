// A bus: devices that its members see, and nobody else. There is no list of all buses and no way from one to another:
// whoever is to see a bus is given it.

import Synchronization

/// What members are told.
public enum BusEvent: Equatable, Sendable {
    /// A device came, or was there when the member joined.
    case added(BusDeviceDescription)
    /// A device went; connections to it are closed.
    case dropped(BusDeviceDescription)
}

/// A container of devices. Any thread.
public final class DeviceBus: Sendable, CustomStringConvertible {
    /// What messages call it.
    public let name: String

    struct Place {
        let device: any BusDevice
        /// By member.
        var connections: [UInt64: Opened] = [:]
    }

    struct Opened {
        /// No two are the same, so that the end of one is not taken for that of another.
        let serial: UInt64
        /// None while it is being opened; weak, for a driver that lets it go closes it.
        weak var connection: BusConnection?
    }

    struct State {
        var places: [String: Place] = [:]
        /// In the order in which they came.
        var names: [String] = []
        var members: [UInt64: BusAnnouncements] = [:]
        var nextNumber: UInt64 = 0
    }
    let state = Mutex(State())

    /// An empty bus.
    public init(name: String) { self.name = name }

    /// Puts a device on the bus, and tells the members.
    public func add(_ device: any BusDevice) throws(BusError) {
        let description = device.about
        guard BusDeviceDescription.isName(description.name) else { throw .badName(description.name) }
        let members = try state.withLock { (state) throws(BusError) in
            guard state.places[description.name] == nil else { throw .nameTaken(description.name, bus: name) }
            state.places[description.name] = Place(device: device)
            state.names.append(description.name)
            return Self.note(.added(description), &state)
        }
        for member in members { member.deliver() }
    }

    /// Takes a device away, closes the connections to it, and tells the members. Not for a device's own thread.
    public func drop(_ name: String) throws(BusError) {
        let (connections, description) = try state.withLock { (state) throws(BusError) in
            guard let place = state.places.removeValue(forKey: name) else { throw .noSuchDevice(name, bus: self.name) }
            state.names.removeAll { $0 == name }
            return (place.connections.values.compactMap(\.connection), place.device.about)
        }
        for connection in connections { connection.end("the device was taken away") }
        let members = state.withLock { Self.note(.dropped(description), &$0) }
        for member in members { member.deliver() }
    }

    /// Noted under the lock, so that all members hear the same in the same order; delivered without it.
    private static func note(_ event: BusEvent, _ state: inout State) -> [BusAnnouncements] {
        let members = Array(state.members.values)
        for member in members { member.append(event) }
        return members
    }

    /// Becomes a member, who sees the devices and may open them.
    /// - Parameter heard: gets an event for each device that is there, and for each that comes and goes from then on,
    ///   one after another, on the thread that adds or drops.
    public func join(_ heard: @escaping @Sendable (BusEvent) -> Void = { _ in }) -> BusMember {
        let announcements = BusAnnouncements(heard)
        let number = state.withLock { state in
            state.nextNumber += 1
            state.members[state.nextNumber] = announcements
            for name in state.names {
                if let place = state.places[name] { announcements.append(.added(place.device.about)) }
            }
            return state.nextNumber
        }
        announcements.deliver()
        return BusMember(self, number)
    }

    /// `bus lab with 3 devices`.
    public var description: String {
        let count = state.withLock { $0.names.count }
        return "bus \(name) with \(count) device\(count == 1 ? "" : "s")"
    }
}

/// What one member is still to be told. A function that is told of a device may use the bus: what follows from that is
/// told after it has returned.
final class BusAnnouncements: Sendable {
    private struct State {
        var events: [BusEvent] = []
        var isDelivering = false
    }
    private let state = Mutex(State())
    private let heard: @Sendable (BusEvent) -> Void

    init(_ heard: @escaping @Sendable (BusEvent) -> Void) { self.heard = heard }

    func append(_ event: BusEvent) { state.withLock { $0.events.append(event) } }

    func forget() { state.withLock { $0.events = [] } }

    func deliver() {
        guard
            state.withLock({ state in
                defer { state.isDelivering = true }
                return !state.isDelivering
            })
        else { return }
        while true {
            let next = state.withLock { state -> BusEvent? in
                guard !state.events.isEmpty else {
                    state.isDelivering = false
                    return nil
                }
                return state.events.removeFirst()
            }
            guard let next else { return }
            heard(next)
        }
    }
}
