// A device's `state` node: reading either side's, writing one's own.

import XenStore
import XenTypes

extension StoreAccess {
    /// The state in the directory `path`; `.unknown` where the node is missing, unreadable or no number (attacks.md
    /// A31): the peer's directory is gone, or as good as gone.
    public func state(of path: String) throws(XenbusError) -> XenbusState {
        guard let text = try text(path + "/state"), let value = StoreNumber.parse(text, as: Int.self) else { return .unknown }
        return XenbusState(rawValue: value) ?? .unknown
    }
}

extension StoreClient {
    /// Writes the state of one's own device, unless the node was removed: a deleted node is never made again, or a
    /// ghost directory would confuse the toolstack (protocol-rules.md 23; Linux xenbus_client.c).
    /// - Returns: false if the directory is gone.
    @discardableResult
    public func switchState(of path: String, to state: XenbusState) throws(XenbusError) -> Bool {
        do {
            return try transaction { access throws(StoreError) in
                guard try access.exists(path + "/state") else { return false }
                try access.write(path + "/state", String(state.rawValue))
                return true
            }
        } catch { throw .store(error) }
    }

    /// Leaves a fatal error's text where the toolstack and people look for it, then closes: `error/…/error` in the own
    /// domain's directory and state 5 (Linux xenbus_dev_fatal).
    public func fail(_ path: String, errorNode: String, number: Int32, _ message: String) throws(XenbusError) {
        try complain(path, errorNode: errorNode, number: number, message)
        try switchState(of: path, to: .closing)
    }

    /// Leaves an error's text there, and no more: the device goes on (Linux xenbus_dev_error).
    public func complain(_ path: String, errorNode: String, number: Int32, _ message: String) throws(XenbusError) {
        // A text too long for a node must not hide the error; and a device that was just taken away leaves no error
        // behind, for nobody would ever remove it.
        let text = "\(number) \(message)".prefix(1000)
        try? transaction { access throws(StoreError) in
            guard try access.exists(path + "/state") else { return }
            try access.write(errorNode, String(text))
        }
    }
}
