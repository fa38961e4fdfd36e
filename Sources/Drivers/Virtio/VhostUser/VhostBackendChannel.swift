// This side's own messages to the front end, on the socket that it gave for them. None of them waits for an answer: a
// front end that does not read would hold us.

import LinuxSystem

/// The back end's way to speak first.
public final class VhostBackendChannel: Sendable {
    private let socket: Descriptor

    /// The socket that came with `setBackendSocket`.
    public init(_ socket: Descriptor) { self.socket = socket }

    /// Has the front end read the configuration space again (`VHOST_USER_BACKEND_CONFIG_CHANGE_MSG`); false: it has not
    /// been told.
    public func configurationChanged() -> Bool { (try? send(2, [])) == true }

    /// Tells the front end that a ring's device has something (`VHOST_USER_BACKEND_VRING_CALL`); false: there is no
    /// room for that at present. A front end that reads nothing any more counts as told.
    public func call(ring: Int) -> Bool { told(4, ring) }

    /// Tells the front end that a ring makes no sense (`VHOST_USER_BACKEND_VRING_ERR`); as `call`.
    public func error(ring: Int) -> Bool { told(5, ring) }

    private func told(_ code: UInt32, _ ring: Int) -> Bool {
        do throws(Errno) { return try send(code, [UInt32(ring), 0]) } catch { return error != .wouldBlock }
    }

    /// Sends a message of so few bytes that the socket takes all or nothing, and from any thread.
    private func send(_ code: UInt32, _ payload: [UInt32]) throws(Errno) -> Bool {
        var message: [UInt8] = []
        for word in [code, 1, UInt32(payload.count * 4)] + payload { message.put(word) }
        return try StreamSocket.send(socket.rawValue, message[...], wait: false) == message.count
    }
}
