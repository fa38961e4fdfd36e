// Taking a disk away, as libxl does: the backend is asked to close and waited for, then all three directories go.

import LinuxSystem
import XenStore
import XenTypes

extension DeviceDirectories {
    /// Removes a device.
    ///
    /// Without `force`, the backend must reach Closed (or vanish) within `milliseconds`; if it does not, the device
    /// stays, and the error says in which states the sides hang; one that its frontend holds because it is in use (its
    /// error node says so) is online again. With `force`, the frontend's directory goes at once, and the rest after at
    /// most that time.
    public func remove(_ paths: DevicePaths, force: Bool = false, milliseconds: Int = 10_000) throws(ToolstackError) {
        let asked = try storing("asking the backend to close") { () throws(StoreError) in
            try store.transaction { (transaction) throws(StoreError) in
                try Self.requestClosing(paths, force: force, in: transaction)
            }
        }
        if asked {
            var last = Progress()
            let closed = try waitForChange(of: paths, milliseconds: milliseconds) { () throws(ToolstackError) in
                last = try progress(of: paths)
                return last.backend == nil || last.backend == .closed
            }
            guard closed || force else {
                if let reason = try stay(paths) { throw .inUse(reason) }
                throw .timedOut(
                    waitingFor: "waiting for the backend to close", seen: "\(last)", milliseconds: milliseconds)
            }
        }
        try destroy(paths)
    }

    /// Makes what was asked to go, and is held by a frontend that uses it, online again; why it is held, or nil if no
    /// frontend holds it.
    private func stay(_ paths: DevicePaths) throws(ToolstackError) -> String? {
        let home = DevicePaths.domain(paths.frontend)
        let errorNode = "\(home)/error\(paths.frontendPath.dropFirst(home.count))/error"
        return try storing("leaving the device") { () throws(StoreError) in
            try store.transaction { (transaction) throws(StoreError) in
                guard let reason = try transaction.value(errorNode), reason.hasPrefix("\(Errno.busy.rawValue) "),
                    try Self.state(at: paths.frontendPath, in: transaction) == .connected,
                    try Self.state(at: paths.backendPath, in: transaction) == .closing
                else { return nil }
                try transaction.write(paths.backendPath + "/online", "1")
                try transaction.write(paths.backendPath + "/state", "\(XenbusState.connected.rawValue)")
                try Self.removeIfPresent(errorNode, in: transaction)
                return printable(String(Self.words(of: reason).prefix(256)))
            }
        }
    }

    /// Waits until a backend has taken up a device that was just created; where none does, the device is gone again.
    public func waitServedOrRemove(_ paths: DevicePaths, milliseconds: Int) throws(ToolstackError) {
        do throws(ToolstackError) { try waitServed(paths, milliseconds: milliseconds) } catch {
            try? remove(paths, force: true, milliseconds: 2000)
            throw error
        }
    }

    /// Removes the directories without asking anybody: what is left to do when a domain is gone.
    public func destroy(_ paths: DevicePaths) throws(ToolstackError) {
        try storing("removing the device") { () throws(StoreError) in
            try store.transaction { (transaction) throws(StoreError) in
                for path in [paths.frontendPath, paths.recordPath, paths.backendPath, paths.backendErrorPath] {
                    try Self.cleanUp(path, in: transaction)
                }
            }
        }
    }

    /// Writes `online` 0 and the backend's state 5 (unless it is closed already); false if the backend's directory is
    /// gone.
    static func requestClosing(_ paths: DevicePaths, force: Bool, in store: some StoreAccess) throws(StoreError) -> Bool {
        if force { try cleanUp(paths.frontendPath, in: store) }
        let state = paths.backendPath + "/state"
        guard let now = try store.value(state) else { return false }
        try store.write(paths.backendPath + "/online", "0")
        if now != "\(XenbusState.closed.rawValue)" { try store.write(state, "\(XenbusState.closing.rawValue)") }
        return true
    }

    /// Removes `path`, then each parent that is left without a child and without a value, up to the domain's own
    /// directory.
    static func cleanUp(_ path: String, in store: some StoreAccess) throws(StoreError) {
        try removeIfPresent(path, in: store)
        var parent = path
        while let slash = parent.lastIndex(of: "/") {
            parent = String(parent[..<slash])
            // Kept: /local/domain/N, its `device` and /libxl/N, which belong to the domain and not to the device.
            if parent.split(separator: "/").count <= 3 || parent.hasSuffix("/device") { return }
            guard try store.value(parent) == "", try store.directory(parent).isEmpty else { return }
            try removeIfPresent(parent, in: store)
        }
    }
}
