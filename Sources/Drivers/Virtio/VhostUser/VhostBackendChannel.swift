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
    public func configurationChanged() -> Bool {
        var message: [UInt8] = []
        for word: UInt32 in [2, 1, 0] { message.put(word) }
        return (try? StreamSocket.send(socket.rawValue, message[...], wait: false)) == message.count
    }
}
