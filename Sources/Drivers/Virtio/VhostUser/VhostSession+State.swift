// A session as a successor takes it over: the messages that bring a new one there, in their order. What they say has
// been looked at once by the predecessor and is looked at again by the successor, on the way by which a front end's own
// come; so there is one place that knows what a session can be.

import DeviceState
import LinuxSystem
import VirtioWire

/// A session that its process has stopped serving.
public struct VhostHandover: Sendable {
    /// The session's attributes. Each names the descriptors that it needs by their places in `descriptors`.
    public var state: DeviceState
    /// What goes along, by whatever way descriptors go.
    public var descriptors: [Descriptor]
    /// The connection to the front end, which has not noticed anything.
    public var socket: Descriptor
    /// Whether the process that served it was killed: what it had in work, its rings and their in-flight memory say.
    public var wasKilled = false

    /// An interface's frame that waits for its driver's memory: a number of the group `network`, with a ring's index.
    public static let waitingFrame: UInt16 = 1

    /// The bytes of a disk as its driver knows them: a number of the group `geometry`.
    public static let knownSize: UInt16 = 32

    /// What the device has left of its own.
    var ofDevice: [DeviceState.Attribute] { state.attributes.filter { VhostSession.isDevices($0.group, $0.number) } }

    /// Whether its front end has started rings.
    public var hasRings: Bool {
        let starts = [VhostRequest.setRingKick, .ringKick].map { UInt16($0.rawValue) }
        return state.attributes.contains { $0.group == DeviceState.Group.queue.rawValue && starts.contains($0.number) }
    }

    /// Whether its front end could make some of its memory shorter, which ends a process that reaches into it.
    public var hasMemoryThatMayShrink: Bool {
        state.attributes.contains { attribute in
            guard attribute.group == DeviceState.Group.memory.rawValue, attribute.number == UInt16(VhostRequest.addRegion.rawValue)
            else { return false }
            var reader = PayloadReader(attribute.bytes)
            let (count, place) = (reader.next(UInt32.self), reader.next(UInt32.self))
            return count > 0 && place < descriptors.count && !descriptors[Int(place)].cannotShrink
        }
    }

    /// The parts of one that came from a predecessor.
    public init(_ state: DeviceState, _ descriptors: [Descriptor], socket: Descriptor, wasKilled: Bool = false) {
        self.state = state
        self.descriptors = descriptors
        self.socket = socket
        self.wasKilled = wasKilled
    }
}

extension VhostSession {
    /// The session's attributes; its rings have been stopped by this side.
    func handover(_ kind: DeviceState.Kind, _ socket: Descriptor) -> VhostHandover {
        var writer = Writer(kind)
        writer.add(.agreement, .setProtocolFeatures) { $0.put(protocolFeatures.rawValue) }
        // What the rest means depends on it: a packed ring's in-flight memory is another.
        writer.add(.agreement, .setFeatures) { $0.put(features.rawValue) }
        if let backendSocket { writer.add(.agreement, .setBackendSocket, backendSocket) }
        for (index, entry) in memory.entries.enumerated() {
            // As often as the front end did, and will remove it.
            for _ in 0..<entry.uses {
                writer.add(.memory, .addRegion, index: index, entry.descriptor) { payload in
                    let region = entry.region
                    for word in [0, region.guestAddress, region.byteCount, region.userAddress, region.fileOffset] {
                        payload.put(word)
                    }
                }
            }
        }
        if let inflight {
            writer.add(.memory, .setInflight, inflight.descriptor) { payload in
                for word in [inflight.area.byteCount, inflight.area.offset] { payload.put(word) }
                for half in [inflight.area.queues, inflight.area.queueSize] { payload.put(half) }
            }
        }
        if let keptRings {
            writer.add(.memory, number: Self.ownInflight, keptRings.descriptor) { payload in
                for word in [keptRings.area.byteCount, keptRings.area.offset] { payload.put(word) }
                for half in [keptRings.area.queues, keptRings.area.queueSize, keptRings.isPacked ? 1 : 0] { payload.put(half) }
            }
        }
        if let logSource {
            writer.add(.memory, .setLogBase, logSource.descriptor) { payload in
                for word in [logSource.byteCount, logSource.offset] { payload.put(word) }
            }
        }
        if let logSignal { writer.add(.memory, .setLogDescriptor, logSignal) }
        if status != 0 { writer.add(.agreement, .setStatus) { $0.put(status) } }
        for index in rings.indices { writer.add(rings[index], index) }
        return VhostHandover(writer.state, writer.descriptors, socket: socket)
    }

    /// Handles what a predecessor left as if the front end had said it.
    /// - Parameter perform: does a task, or says why not.
    mutating func resume(
        _ handover: VhostHandover, _ perform: (VhostTask) throws(VhostRefusal) -> Void
    ) throws(VhostResumeError) {
        isRecovering = handover.wasKilled
        defer { isRecovering = false }
        for attribute in handover.state.attributes where !Self.isDevices(attribute.group, attribute.number) {
            if (attribute.group, attribute.number) == (DeviceState.Group.memory.rawValue, Self.ownInflight) {
                try takeOwnInflight(attribute, handover.descriptors)
                continue
            }
            let envelope = try Self.envelope(attribute, handover.descriptors)
            let step: VhostStep
            do throws(VhostUserError) { step = try handle(envelope) } catch { throw .nonsense(error) }
            guard case .perform(let task) = step else { continue }
            do throws(VhostRefusal) {
                try perform(task)
                while let more = next(after: nil) { try perform(more) }
            } catch { throw .refused(error.description) }
            _ = finish()
        }
    }

    /// Whether an attribute is one that a session has.
    public static func understands(_ group: UInt16, _ number: UInt16) -> Bool {
        if isDevices(group, number) { return true }
        if group == DeviceState.Group.memory.rawValue, number == ownInflight { return true }
        return VhostRequest(rawValue: UInt32(number)).map { attributes[$0]?.rawValue == group } ?? false
    }

    /// Memory of this side's own for what is in flight: no message has brought it.
    private static let ownInflight: UInt16 = 0x100

    /// Whether an attribute is the device's own, and no business of the session's.
    static func isDevices(_ group: UInt16, _ number: UInt16) -> Bool {
        (group, number) == (DeviceState.Group.network.rawValue, VhostHandover.waitingFrame)
            || (group, number) == (DeviceState.Group.geometry.rawValue, VhostHandover.knownSize)
    }

    /// What a session is made of, and the groups it belongs to.
    private static let attributes: [VhostRequest: DeviceState.Group] = [
        .setProtocolFeatures: .agreement, .setBackendSocket: .agreement, .setFeatures: .agreement, .setStatus: .agreement,
        .addRegion: .memory, .setInflight: .memory, .setLogBase: .memory, .setLogDescriptor: .memory,
        .setRingSize: .queue, .setRingBase: .queue, .setRingAddresses: .queue, .setRingCall: .queue, .setRingError: .queue,
        .setRingEnabled: .queue, .setRingKick: .queue, .ringKick: .queue,
    ]

    /// The message that an attribute is: the numbers of its descriptors, then its payload.
    private static func envelope(
        _ attribute: DeviceState.Attribute, _ descriptors: [Descriptor]
    ) throws(VhostResumeError) -> VhostEnvelope {
        guard understands(attribute.group, attribute.number), let request = VhostRequest(rawValue: UInt32(attribute.number)) else {
            throw .unknown(group: attribute.group, number: attribute.number)
        }
        var reader = PayloadReader(attribute.bytes)
        let own = try Self.descriptors(&reader, descriptors)
        do throws(VhostUserError) {
            let message = try VhostMessage(request, reader.take(reader.count), own)
            return VhostEnvelope(request: request, needsReply: false, message: message)
        } catch { throw .nonsense(error) }
    }

    private static func descriptors(
        _ reader: inout PayloadReader, _ descriptors: [Descriptor]
    ) throws(VhostResumeError) -> [Descriptor] {
        guard reader.next(UInt32.self) > 0 else { return [] }
        let place = reader.next(UInt32.self)
        guard place < descriptors.count else { throw .noDescriptor(place) }
        return [descriptors[Int(place)]]
    }

    /// Goes on with memory for what is in flight that a predecessor had made.
    private mutating func takeOwnInflight(
        _ attribute: DeviceState.Attribute, _ descriptors: [Descriptor]
    ) throws(VhostResumeError) {
        var reader = PayloadReader(attribute.bytes)
        let own = try Self.descriptors(&reader, descriptors)
        let (byteCount, offset) = (reader.next(UInt64.self), reader.next(UInt64.self))
        let (queues, queueSize) = (reader.next(UInt16.self), reader.next(UInt16.self))
        let isPacked = reader.next(UInt16.self) != 0
        guard let descriptor = own.first else { throw .noDescriptor(0) }
        // Of no use to who keeps nothing.
        guard keepsRings else { return }
        let area = VhostInflightArea(byteCount: byteCount, offset: offset, queues: queues, queueSize: queueSize)
        do throws(VhostUserError) { keptRings = try VhostInflight(area, descriptor, isPacked: isPacked) } catch {
            throw .nonsense(error)
        }
    }
}

/// Gathers attributes and the descriptors that go with them.
private struct Writer {
    var state: DeviceState
    var descriptors: [Descriptor] = []

    /// Bit 8 of a descriptor's message: there is none.
    private static let noDescriptor: UInt64 = 1 << 8

    init(_ kind: DeviceState.Kind) { state = DeviceState(kind, over: .vhostUser) }

    mutating func add(
        _ group: DeviceState.Group, _ request: VhostRequest, index: Int = 0, _ descriptor: Descriptor? = nil,
        _ payload: (inout [UInt8]) -> Void = { _ in }
    ) { add(group, number: UInt16(request.rawValue), index: index, descriptor, payload) }

    mutating func add(
        _ group: DeviceState.Group, number: UInt16, index: Int = 0, _ descriptor: Descriptor? = nil,
        _ payload: (inout [UInt8]) -> Void = { _ in }
    ) {
        var bytes: [UInt8] = []
        bytes.put(UInt32(descriptor == nil ? 0 : 1))
        if let descriptor {
            bytes.put(UInt32(descriptors.count))
            descriptors.append(descriptor)
        }
        payload(&bytes)
        state.attributes.append(.init(group, number, index: UInt32(index), bytes))
    }

    /// A ring's settings; its kick last, for that is what starts it.
    mutating func add(_ ring: VhostRing, _ index: Int) {
        let number = UInt32(index)
        func pair(_ value: UInt32) -> (inout [UInt8]) -> Void {
            {
                $0.put(number); $0.put(value)
            }
        }
        if ring.size > 0 { add(.queue, .setRingSize, index: index, nil, pair(ring.size)) }
        add(.queue, .setRingBase, index: index, nil, pair(ring.base))
        if let addresses = ring.addresses {
            add(.queue, .setRingAddresses, index: index) { payload in
                payload.put(number)
                payload.put(UInt32(addresses.log == nil ? 0 : 1))
                for word in [addresses.descriptors, addresses.used, addresses.available, addresses.log ?? 0] { payload.put(word) }
            }
        }
        for (request, bell, which) in [
            (VhostRequest.setRingCall, ring.call, VhostBellMessages.call), (.setRingError, ring.error, .error),
        ] where !ring.unsaid.contains(which) {
            add(.queue, request, index: index, bell) { $0.put(UInt64(number) | (bell == nil ? Self.noDescriptor : 0)) }
        }
        add(.queue, .setRingEnabled, index: index, nil, pair(ring.isEnabled ? 1 : 0))
        if let kick = ring.kick {
            add(.queue, .setRingKick, index: index, kick) { $0.put(UInt64(number) | (kick == nil ? Self.noDescriptor : 0)) }
        } else if ring.isKickedByMessage {
            add(.queue, .ringKick, index: index, nil, pair(0))
        }
    }
}

/// Why a successor cannot go on with a session.
public enum VhostResumeError: Error, CustomStringConvertible {
    /// An attribute that no session has.
    case unknown(group: UInt16, number: UInt16)
    /// A descriptor is named that did not come.
    case noDescriptor(UInt32)
    /// What a front end could not have said.
    case nonsense(VhostUserError)
    /// The device cannot do it.
    case refused(String)

    /// In one line.
    public var description: String {
        switch self {
        case .unknown(let group, let number): "its state has attribute \(number) of group \(group), which no session has"
        case .noDescriptor(let place): "its state names descriptor \(place), which did not come along"
        case .nonsense(let error): "its state: \(error)"
        case .refused(let reason): reason
        }
    }
}
