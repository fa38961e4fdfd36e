// A device behind a vhost-user socket as whoever looks after it sees it. To pause it is to put its session by, which is
// what an upgrade does: the front end waits, and does not notice.

import DeviceControl
import DeviceState
import LinuxSystem
import VirtioWire

/// One device and its socket, whoever listens there.
public struct VhostControl: ControlledDevice {
    /// As `causeway device` calls it.
    public let name: String
    private let place: any VhostPlace
    private let device: any VhostDevice
    private let address: MACAddress?
    private let time: any TimeSource

    /// - Parameter address: an interface's, which only its front end knows else.
    public init(
        _ name: String, _ place: any VhostPlace, _ device: any VhostDevice, address: MACAddress? = nil, time: any TimeSource
    ) {
        self.name = name
        self.place = place
        self.device = device
        self.address = address
        self.time = time
    }

    /// What the device is.
    public var kind: DeviceState.Kind { device.kind }
    /// A socket, whoever is at its other end.
    public var transport: DeviceState.Transport { .vhostUser }
    /// Paused: the session is put by, if there is one.
    public var phase: DevicePhase {
        if place.isHeld { return .paused }
        return place.connection == nil ? .waiting : .running
    }

    /// The device's own, and while it is paused the session's.
    public func attributes() throws(ControlError) -> [DeviceState.Attribute] {
        var own = device.attributes
        if let address { own.append(DevicePropertyKey.mac.attribute("\(address)")) }
        return own + (place.held?.state.attributes ?? [])
    }

    /// What a message of the session says.
    public func properties(of attribute: DeviceState.Attribute) -> [DeviceProperty] { VhostSession.properties(of: attribute) }

    /// Between two messages of the front end's.
    public func perform(_ command: DeviceCommand) throws(ControlError) {
        switch command {
        case .pause(let milliseconds):
            guard place.hold(milliseconds: milliseconds, time) else { throw .pauses(name, milliseconds: milliseconds) }
        case .resume:
            guard place.isHeld else { throw .notPaused(name) }
            try resume()
        case .reset(let milliseconds):
            guard place.hold(milliseconds: milliseconds, time) else { throw .pauses(name, milliseconds: milliseconds) }
            device.restoreSignals()
            try resume()
        case .cancel: try doing(command) { () throws(VhostRefusal) in try device.cancel() }
        case .trace(let isOn): place.trace(isOn)
        case .handover:
            // Its image's lock, its taps and the keeper's copies are the process's.
            throw .cannot(
                device: name, command: command.name,
                "what is behind a device goes along with its process only: `causeway upgrade` hands all of them on")
        case .close:
            guard let connection = place.connection else { throw phase == .paused ? .isPaused(name) : .hasNoDriver(name) }
            connection.close()
        case .flush: try doing(command) { () throws(VhostRefusal) in try device.flush() }
        case .refresh: try ask(.refresh, command)
        case .kick(let queue): try ask(.kick(ring: queue), command)
        case .inject(let queue): try ask(.inject(ring: queue), command)
        case .announce:
            guard let address else { throw .cannot(device: name, command: command.name, "it is no interface") }
            try ask(.announce(address), command)
        }
    }

    /// Refused: see what it says.
    public func load(_ state: DeviceState) throws(ControlError) {
        guard phase != .running else { throw .runs(name, needs: "a state is loaded") }
        try expectLikeness(of: state)
        guard state.transport == .vhostUser else { throw .otherTransport(name, saved: state.transport) }
        // Its memory and signals are descriptors, which no file has.
        throw .cannot(
            device: name, command: "load",
            "a session comes back with its front end's descriptors only: `causeway upgrade` hands them on, and a front end that connects anew brings them"
        )
    }

    private func resume() throws(ControlError) {
        do throws(Errno) { try place.resume() } catch { throw .failed(name, "\(error)") }
    }

    private func ask(_ order: VhostOrder, _ command: DeviceCommand) throws(ControlError) {
        guard let connection = place.connection else { throw phase == .paused ? .isPaused(name) : .hasNoDriver(name) }
        try doing(command) { () throws(VhostRefusal) in try connection.ask(order) }
    }

    private func doing(_ command: DeviceCommand, _ body: () throws(VhostRefusal) -> Void) throws(ControlError) {
        do throws(VhostRefusal) { try body() } catch { throw .cannot(device: name, command: command.name, "\(error)") }
    }
}

extension VhostSession {
    /// What an attribute of a session's says.
    static func properties(of attribute: DeviceState.Attribute) -> [DeviceProperty] {
        guard understands(attribute.group, attribute.number), let request = VhostRequest(rawValue: UInt32(attribute.number)),
            let group = DeviceState.Group(rawValue: attribute.group)
        else { return [] }
        var reader = PayloadReader(attribute.bytes)
        let descriptors = reader.next(UInt32.self)
        let descriptor = descriptors == 0 ? "none" : "\(reader.next(UInt32.self))"
        let index = attribute.index
        func one(_ name: String, _ value: String) -> DeviceProperty {
            DeviceProperty(group, index: group == .agreement ? nil : index, name, value)
        }
        switch request {
        case .setFeatures: return [one("features", hexadecimal(reader.next(UInt64.self)))]
        case .setProtocolFeatures: return [one("protocol-features", hexadecimal(reader.next(UInt64.self)))]
        case .setStatus: return [one("status", hexadecimal(reader.next(UInt64.self)))]
        case .setBackendSocket: return [one("backend-socket", "descriptor \(descriptor)")]
        case .addRegion:
            _ = reader.next(UInt64.self)
            let (guest, bytes, user, offset) = (
                reader.next(UInt64.self), reader.next(UInt64.self), reader.next(UInt64.self), reader.next(UInt64.self)
            )
            return [
                one("guest-address", hexadecimal(guest)), one("bytes", "\(bytes)"), one("user-address", hexadecimal(user)),
                one("file-offset", "\(offset)"), one("descriptor", descriptor),
            ]
        case .setInflight: return [one("in-flight-bytes", "\(reader.next(UInt64.self))"), one("in-flight-descriptor", descriptor)]
        case .setLogBase: return [one("log-bytes", "\(reader.next(UInt64.self))"), one("log-descriptor", descriptor)]
        case .setLogDescriptor: return [one("log-signal", "descriptor \(descriptor)")]
        default: return ringProperties(request, &reader, descriptor, one)
        }
    }

    private static func ringProperties(
        _ request: VhostRequest, _ reader: inout PayloadReader, _ descriptor: String, _ one: (String, String) -> DeviceProperty
    ) -> [DeviceProperty] {
        switch request {
        case .setRingCall: return [one("call", "descriptor \(descriptor)")]
        case .setRingError: return [one("error", "descriptor \(descriptor)")]
        case .setRingKick: return [one("kick", "descriptor \(descriptor)")]
        case .ringKick: return [one("kick", "by messages")]
        default: break
        }
        _ = reader.next(UInt32.self)
        let word = reader.next(UInt32.self)
        switch request {
        case .setRingSize: return [one("entries", "\(word)")]
        case .setRingBase: return [one("next-available", "\(word)")]
        case .setRingEnabled: return [one("enabled", word == 0 ? "no" : "yes")]
        case .setRingAddresses:
            let (table, used, available) = (reader.next(UInt64.self), reader.next(UInt64.self), reader.next(UInt64.self))
            return [
                one("descriptors-address", hexadecimal(table)), one("used-address", hexadecimal(used)),
                one("available-address", hexadecimal(available)),
            ]
        default: return []
        }
    }

    private static func hexadecimal(_ number: UInt64) -> String { "0x" + String(number, radix: 16) }
}
