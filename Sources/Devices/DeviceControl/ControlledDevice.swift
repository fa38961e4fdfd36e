// A device as whoever looks after it sees it. State is apart from commands: attributes describe, and are exactly what
// is saved; a command acts, once, and is never replayed. One form for every kind of device and every transport.

import DeviceState

/// Where a device is in its life.
public enum DevicePhase: String, Sendable {
    /// No driver uses it.
    case waiting
    /// A driver uses it.
    case running
    /// A driver has it, and nothing is taken from that driver: what describes it stands still.
    case paused
}

/// A device that can be looked at and told what to do. From any thread; calls may wait for the device's threads.
public protocol ControlledDevice: Sendable {
    /// What it is called: `xvda`, `vif0`, or for Xen's guests `vbd-1/51712`.
    var name: String { get }
    /// What it is.
    var kind: DeviceState.Kind { get }
    /// Through what its driver reaches it.
    var transport: DeviceState.Transport { get }
    /// Where it is now.
    var phase: DevicePhase { get }
    /// What may be known of it in this phase: identity, geometry and counters always, all the rest while it is paused.
    func attributes() throws(ControlError) -> [DeviceState.Attribute]
    /// What an attribute says, where `DevicePropertyKey` does not know it.
    func properties(of attribute: DeviceState.Attribute) -> [DeviceProperty]
    /// Where its rings are now, and what is in work; none while it has no driver.
    func rings() throws(ControlError) -> [RingReport]
    /// Does something, and returns when it is done.
    func perform(_ command: DeviceCommand) throws(ControlError)
    /// Takes what a saved state says of a device like this one, where that has a meaning; else refuses, and nothing is
    /// changed.
    func load(_ state: DeviceState) throws(ControlError)
    /// What it does wrong on purpose, where that may be asked of it.
    var faults: FaultPermission { get }
}

extension ControlledDevice {
    /// There are none but those that every device has.
    public func properties(of attribute: DeviceState.Attribute) -> [DeviceProperty] { [] }

    /// It has no rings that anybody could look at.
    public func rings() throws(ControlError) -> [RingReport] {
        throw .cannot(device: name, command: "rings", "they are \(transport)'s, and not looked into while the device runs")
    }

    /// Its state, complete.
    public func save() throws(ControlError) -> DeviceState {
        guard phase != .running else { throw .runs(name, needs: "its state is complete") }
        return DeviceState(kind, over: transport, try attributes())
    }

    /// Everything that may be known of it now, in words.
    public func described() throws(ControlError) -> [DeviceProperty] {
        try attributes().flatMap { DevicePropertyKey.property(of: $0).map { [$0] } ?? properties(of: $0) }
    }

    /// Whether a saved state is of a device that could be this one.
    /// - Throws: `.otherDevice`, which names the first attribute that differs.
    public func expectLikeness(of state: DeviceState) throws(ControlError) {
        guard state.kind == kind else { throw .otherKind(name, kind, saved: state.kind) }
        if let difference = DevicePropertyKey.difference(of: state, from: try attributes()) {
            throw .otherDevice(name, difference.name, saved: difference.saved, own: difference.own)
        }
    }
}

extension DevicePropertyKey {
    /// The first thing in which the device of a saved state is another than one with these attributes: its geometry.
    public static func difference(
        of state: DeviceState, from own: [DeviceState.Attribute]
    ) -> (name: String, saved: String, own: String?)? {
        for attribute in state.attributes where attribute.group == DeviceState.Group.geometry.rawValue {
            guard let property = property(of: attribute) else { continue }
            let mine = own.first { $0.group == attribute.group && $0.number == attribute.number && $0.index == attribute.index }
            guard mine?.bytes != attribute.bytes else { continue }
            return (property.name, property.value, mine.flatMap { Self.property(of: $0)?.value })
        }
        return nil
    }
}
