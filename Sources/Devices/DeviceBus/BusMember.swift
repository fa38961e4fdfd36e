// A member of a bus: what a driver, or a connector on behalf of drivers elsewhere, has of it.

import Synchronization

/// Membership of one bus. When the last reference goes, it ends. Any thread.
public final class BusMember: Sendable {
    /// The bus.
    public let bus: DeviceBus
    private let number: UInt64

    init(_ bus: DeviceBus, _ number: UInt64) {
        self.bus = bus
        self.number = number
    }

    deinit { leave() }

    /// The devices, in the order in which they came.
    public var devices: [BusDeviceDescription] {
        bus.state.withLock { state in
            guard state.members[number] != nil else { return [] }
            return state.names.compactMap { state.places[$0]?.device.about }
        }
    }

    /// Opens a device.
    /// - Parameters:
    ///   - memory: what the device may reach beside what is shared with it.
    ///   - closed: is told why when the connection is ended by anybody but its driver: the device was taken away, or
    ///     gave it up. Called once, on the thread that ends it.
    public func open(
        _ name: String, version: UInt32 = 1, memory: BusMemory = BusMemory(),
        closed: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(BusError) -> BusConnection {
        let (device, serial) = try reserve(name, version)
        let box = OpeningBox()
        let opening = BusOpening(version: version, memory: memory) { box.end($0) }
        let endpoint: any BusEndpoint
        do throws(BusRefusal) { endpoint = try device.connect(opening) } catch {
            release(name, serial)
            throw .refused(name, error)
        }
        // It keeps its member: who lets that go has not left while a connection is open.
        let connection = BusConnection(
            device.about, version: version, endpoint, forget: { self.release(name, serial) }, closed: closed)
        box.set(connection)
        let isThere = bus.state.withLock { state in
            guard state.members[number] != nil, state.places[name]?.connections[number]?.serial == serial else { return false }
            state.places[name]?.connections[number]?.connection = connection
            return true
        }
        // It was taken away, or the member left, while it was being opened.
        guard isThere else {
            connection.end("the device was taken away", tells: false)
            throw .noSuchDevice(name, bus: bus.name)
        }
        return connection
    }

    /// Ends the membership, and the member's connections.
    public func leave() {
        let connections = bus.state.withLock { state -> [BusConnection] in
            guard let announcements = state.members.removeValue(forKey: number) else { return [] }
            announcements.forget()
            return state.places.values.compactMap { $0.connections[number]?.connection }
        }
        for connection in connections { connection.end("its driver left the bus") }
    }

    /// Takes the device's place for a connection, before the device is asked.
    private func reserve(_ name: String, _ version: UInt32) throws(BusError) -> (any BusDevice, UInt64) {
        try bus.state.withLock { (state) throws(BusError) in
            guard state.members[number] != nil else { throw .left(bus: bus.name) }
            guard let place = state.places[name] else { throw .noSuchDevice(name, bus: bus.name) }
            let description = place.device.about
            guard description.versions.contains(version) else {
                throw .wrongVersion(version, device: name, has: description.versions)
            }
            if place.connections[number] != nil { throw .alreadyOpen(name) }
            if !description.servesMany, !place.connections.isEmpty { throw .inUse(name) }
            state.nextNumber += 1
            state.places[name]?.connections[number] = DeviceBus.Opened(serial: state.nextNumber)
            return (place.device, state.nextNumber)
        }
    }

    private func release(_ name: String, _ serial: UInt64) {
        bus.state.withLock { state in
            guard state.places[name]?.connections[number]?.serial == serial else { return }
            state.places[name]?.connections[number] = nil
        }
    }
}

/// What a device that ends a connection finds it by. It may do so before whoever opened it has it.
private final class OpeningBox: Sendable {
    private struct State {
        weak var connection: BusConnection?
        var reason: String?
    }
    private let state = Mutex(State())

    func set(_ connection: BusConnection) {
        let reason = state.withLock { state in
            state.connection = connection
            return state.reason
        }
        if let reason { connection.end(reason) }
    }

    func end(_ reason: String) {
        let connection = state.withLock { state in
            state.reason = reason
            return state.connection
        }
        connection?.end(reason)
    }
}
