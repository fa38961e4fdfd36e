// This side's own messages to the front end, on the socket that it gave for them. None of them waits for an answer: a
// front end that does not read would hold us.

import LinuxSystem
import VirtioRing

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

    /// Says that IO addresses are not known, or that they could not be used as was meant
    /// (`VHOST_USER_BACKEND_IOTLB_MSG`); as `call`.
    public func say(_ translation: VhostTranslation) -> Bool {
        var payload: [UInt8] = []
        for word in [translation.address, translation.byteCount, 0] { payload.put(word) }
        payload += [translation.permissions, translation.kind.rawValue, 0, 0, 0, 0, 0, 0]
        do throws(Errno) { return try sendBytes(1, payload) } catch { return error != .wouldBlock }
    }

    /// The same of what a queue has to say of its memory.
    public func say(_ notice: TranslationNotice) -> Bool {
        say(
            VhostTranslation(
                address: notice.address, byteCount: TranslatedMemory.pageBytes, permissions: notice.rights.rawValue,
                kind: notice.kind == .miss ? .miss : .fail))
    }

    private func told(_ code: UInt32, _ ring: Int) -> Bool {
        do throws(Errno) { return try send(code, [UInt32(ring), 0]) } catch { return error != .wouldBlock }
    }

    private func send(_ code: UInt32, _ payload: [UInt32]) throws(Errno) -> Bool {
        var bytes: [UInt8] = []
        for word in payload { bytes.put(word) }
        return try sendBytes(code, bytes)
    }

    /// Sends a message of so few bytes that the socket takes all or nothing, and from any thread.
    private func sendBytes(_ code: UInt32, _ payload: [UInt8]) throws(Errno) -> Bool {
        var message: [UInt8] = []
        for word in [code, 1, UInt32(payload.count)] { message.put(word) }
        message += payload
        return try StreamSocket.send(socket.rawValue, message[...], wait: false) == message.count
    }
}
