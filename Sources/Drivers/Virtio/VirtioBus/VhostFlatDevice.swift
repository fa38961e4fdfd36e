// A flat device of a bus behind a vhost-user socket. The configuration space is its page: GET_CONFIG and SET_CONFIG are
// its calls, and a change is told by CONFIG_CHANGE on the socket that the front end gave for that. It has no ring.

import DeviceBus
import DeviceControl
import DeviceState
import LinuxSystem
import PageDevices
import Synchronization
import VhostUser

/// Carries a flat device to vhost-user front ends, one after another. It is open on its bus while a front end is there.
public final class VhostFlatDevice: VhostDevice {
    /// Its name on the bus.
    public let name: String
    private let member: BusMember
    private let log: @Sendable (String) -> Void
    private let state = Mutex(State())

    private struct State {
        var connection: BusConnection?
        var channel: VhostBackendChannel?
        /// A change could not be told yet.
        var isOwed = false
    }

    /// - Parameters:
    ///   - member: of the bus that the device is on.
    ///   - log: gets a line when the device is taken away, or cannot be opened.
    public init(_ name: String, on member: BusMember, log: @escaping @Sendable (String) -> Void = { _ in }) {
        self.name = name
        self.member = member
        self.log = log
    }

    /// Of no queue.
    public var kind: DeviceState.Kind { .flat }

    /// The same for every front end.
    public var offer: VhostOffer {
        VhostOffer(
            features: .version1,
            protocolFeatures: [.replyAck, .backendRequests, .configuration, .resetDevice, .memorySlots, .status],
            rings: 0)
    }

    /// Nothing but its name: what it has is its driver's to read.
    public var attributes: [DeviceState.Attribute] { [DevicePropertyKey.model.attribute(name)] }

    /// Nothing is kept back.
    public func flush() throws(VhostRefusal) { throw VhostRefusal("\(name) keeps nothing that could be flushed") }

    /// What the device has from an offset on; nothing of one that is not there.
    public func configuration(from offset: Int, byteCount: Int) -> [UInt8] {
        let question = WireNumber.bytes(UInt32(clamping: offset)) + WireNumber.bytes(UInt32(clamping: byteCount))
        do throws(BusError) { return try opened().call(FlatShare.read, question) } catch {
            log("\(error)")
            return []
        }
    }

    /// Takes what a driver writes, and the socket for what it is to be told.
    public func perform(_ task: VhostTask) throws(VhostRefusal) -> UInt32? {
        switch task {
        case .writeConfiguration(let offset, let bytes):
            do throws(BusError) { try opened().call(FlatShare.write, WireNumber.bytes(UInt32(clamping: offset)) + bytes) } catch {
                throw VhostRefusal("\(error)")
            }
        case .backendSocket(let socket):
            let channel = VhostBackendChannel(socket)
            state.withLock { $0.channel = channel }
            // Open from now on: what changes before the first question is told, too.
            do throws(BusError) { _ = try opened() } catch { throw VhostRefusal("\(error)") }
        case .start(let ring, _): throw VhostRefusal("\(name): it has no ring \(ring)")
        // Memory may be shared, and nothing of it is touched; the rest is of rings.
        default: break
        }
        return nil
    }

    /// The connection, opened when it is first needed, and anew when the device was taken away and is there again.
    private func opened() throws(BusError) -> BusConnection {
        if let connection = state.withLock({ $0.connection }), connection.reason == nil { return connection }
        let connection = try member.open(name) { [log, name] in log("\(name): \($0)") }
        try connection.share(FlatShare.device, nil, signal: .action { [weak self] in self?.changed() })
        state.withLock { $0.connection = connection }
        return connection
    }

    private func changed() {
        state.withLock { state in
            guard let channel = state.channel else { return }
            state.isOwed = !channel.configurationChanged()
        }
    }

    /// Tells what could not be told.
    public func idle() { if state.withLock({ $0.isOwed }) { changed() } }

    /// There is nothing.
    public func cancel() throws(VhostRefusal) { throw VhostRefusal("a device without rings has nothing in work") }
    /// It may have changed while nobody served it.
    public func resumed() { changed() }

    /// Lets the device go, for whoever comes next.
    public func disconnected() {
        let connection = state.withLock { state in
            defer { state = State() }
            return state.connection
        }
        connection?.close()
    }
}
