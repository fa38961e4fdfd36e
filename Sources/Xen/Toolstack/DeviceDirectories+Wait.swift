// Waiting for a device's two sides, with a deadline and with words for what is missing.

import XenStore
import XenTypes

extension DeviceDirectories {
    /// How far a device has come, as its two state nodes say.
    public struct Progress: Hashable, Sendable, CustomStringConvertible {
        /// Nil where the node is gone or is no state.
        public var frontend: XenbusState?
        /// Nil where the node is gone or is no state.
        public var backend: XenbusState?

        /// `frontend 3 (Initialised), backend 2 (InitWait)`.
        public var description: String { "frontend \(Self.name(frontend)), backend \(Self.name(backend))" }

        /// The step that is missing on the way to Connected.
        public var missingStep: String {
            switch (frontend, backend) {
            case (_, nil): return "the backend's directory to exist"
            case (nil, _): return "the frontend's directory to exist"
            case (_, .initialising), (_, .unknown): return "the backend to take up the device"
            case (.initialising, .initWait), (.unknown, .initWait): return "the frontend to offer its rings"
            case (.initialised, .initWait), (.connected, .initWait): return "the backend to map the frontend's rings"
            case (_, .connected): return "the frontend to connect"
            default: return "both sides to connect"
            }
        }

        private static func name(_ state: XenbusState?) -> String {
            guard let state else { return "gone" }
            let word = "\(state)"
            return "\(state.rawValue) (\(word.prefix(1).uppercased())\(word.dropFirst()))"
        }
    }

    /// Both sides' states now.
    public func progress(of paths: DevicePaths) throws(ToolstackError) -> Progress {
        try storing("reading the device's state") { () throws(StoreError) in
            .init(
                frontend: try Self.state(at: paths.frontendPath, in: store),
                backend: try Self.state(at: paths.backendPath, in: store))
        }
    }

    static func state(at path: String, in store: some StoreAccess) throws(StoreError) -> XenbusState? {
        guard let text = try store.value(path + "/state"), let number = Int(text) else { return nil }
        return XenbusState(rawValue: number)
    }

    /// Waits until both sides are in state 4; on a time-out the error says which step hangs, and an error node that a
    /// side wrote is reported at once.
    public func waitConnected(_ paths: DevicePaths, milliseconds: Int) throws(ToolstackError) {
        var last = Progress()
        let done = try waitForChange(of: paths, milliseconds: milliseconds) { () throws(ToolstackError) in
            last = try progress(of: paths)
            if last.frontend == .connected && last.backend == .connected { return true }
            if let message = try failure(of: paths), last.backend == .closing || last.backend == .closed {
                throw .deviceFailed(message)
            }
            return false
        }
        guard done else {
            let failure = try failure(of: paths).map { "\(last); \($0)" }
            throw .timedOut(
                waitingFor: "waiting for \(last.missingStep)", seen: failure ?? "\(last)", milliseconds: milliseconds)
        }
    }

    /// What a side wrote under its domain's `error/`, made printable: these are the peer's own words.
    public func failure(of paths: DevicePaths) throws(ToolstackError) -> String? {
        try storing("reading the device's errors") { () throws(StoreError) in
            for (side, domain, path) in [
                ("backend", paths.backend, paths.backendPath), ("frontend", paths.frontend, paths.frontendPath),
            ] {
                let home = DevicePaths.domain(domain)
                let node = "\(home)/error\(path.dropFirst(home.count))/error"
                if let text = try store.value(node), !text.isEmpty {
                    return "\(side): \(printable(String(Self.words(of: text).prefix(256))))"
                }
            }
            return nil
        }
    }

    /// An error node's text without the number that it begins with.
    static func words(of text: String) -> Substring {
        let rest = text.drop { $0.isNumber }
        return rest.count < text.count && rest.first == " " ? rest.dropFirst() : text[...]
    }

    /// Evaluates `condition` now and after each change of either state, until it holds; false when the time is over.
    func waitForChange(
        of paths: DevicePaths, milliseconds: Int, until condition: () throws(ToolstackError) -> Bool
    ) throws(ToolstackError) -> Bool {
        let nodes = [paths.backendPath + "/state", paths.frontendPath + "/state"]
        for node in nodes {
            try storing("watching \(node)") { () throws(StoreError) in try store.watch(node, token: node) }
        }
        defer { for node in nodes { try? store.unwatch(node, token: node) } }
        let end = store.time.deadline(milliseconds: milliseconds)
        while true {
            if try condition() { return true }
            let now = store.time.nanoseconds
            guard now < end else { return false }
            // At most a quarter of a second at a time: the error nodes are not watched.
            let wait = Int32(min((end - now) / 1_000_000, 250)) + 1
            _ = try storing("waiting for the device") { () throws(StoreError) in try store.nextEvent(milliseconds: wait)
            }
        }
    }
}

extension DeviceDirectories {
    /// Waits until a backend has taken up the device (InitWait or later); what xl waits for after attaching.
    public func waitServed(_ paths: DevicePaths, milliseconds: Int) throws(ToolstackError) {
        var last = Progress()
        let done = try waitForChange(of: paths, milliseconds: milliseconds) { () throws(ToolstackError) in
            last = try progress(of: paths)
            if last.backend == .closing || last.backend == .closed {
                throw .deviceFailed(try failure(of: paths) ?? "the backend closed the device")
            }
            return last.backend != nil && last.backend != .initialising
        }
        guard done else {
            throw .timedOut(
                waitingFor: try failure(of: paths).map { "waiting for the device to be taken up; \($0)" }
                    ?? "waiting for the backend to take up the device; is `causeway backend` running?",
                seen: "\(last)",
                milliseconds: milliseconds)
        }
    }
}
