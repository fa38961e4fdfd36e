// The server's thread: poll, read, serve, send. All rules are in StoreCore; this only moves bytes.

import Glibc
import LinuxSystem
import Synchronization
import XenStore

/// What the thread and the callers share, under one lock: store traffic is control traffic.
struct StoreServerState: ~Copyable {
    var core: StoreCore
    var sockets: [StoreConnectionID: Descriptor] = [:]
    var listeners: [StoreListener] = []
    /// Connections with a whole request that could not be served at once.
    var waiting: Set<StoreConnectionID> = []
    var wake: WakePipe?
    var isStopping = false
    /// After a failed accept, for want of descriptors: not to be tried before then (nanoseconds).
    var acceptAfter: UInt64 = 0
}

/// The loop, apart from its owner so that the thread keeps no server alive.
final class StoreServerLoop: Sendable {
    private let state: Mutex<StoreServerState>
    private let time: any TimeSource

    init(limits: StoreLimits, time: any TimeSource) {
        state = Mutex(StoreServerState(core: StoreCore(limits: limits)))
        self.time = time
    }

    // MARK: From any thread

    func inspect<R: Sendable>(_ body: (inout StoreServerState) -> R) -> R {
        state.withLock { state in body(&state) }
    }

    /// Changes the state and lets the thread send what came of it.
    func mutate<R: Sendable>(_ body: (inout StoreServerState) -> R) -> R {
        state.withLock { state in
            let result = body(&state)
            state.closeDropped()
            if let wake = state.wake { signalPipe(wake.writer) }
            return result
        }
    }

    func prepare() throws(Errno) {
        let wake = try WakePipe()
        state.withLock { state in
            state.wake = wake
            state.isStopping = false
        }
    }

    func requestStop() { mutate { $0.isStopping = true } }

    func closeAll() {
        mutate { state in
            for id in state.sockets.keys { state.core.disconnect(id) }
            state.sockets.removeAll()
            state.waiting.removeAll()
            for listener in state.listeners { FileSystem.remove(listener.path) }
            state.listeners.removeAll()
        }
    }

    func add(_ listener: StoreListener) { mutate { $0.listeners.append(listener) } }

    // MARK: The thread

    func run() {
        while let plan = inspect({ $0.plan(now: time.nanoseconds) }) {
            var entries = plan.entries
            do { try waitForEvents(&entries, milliseconds: plan.timeout) } catch { continue }
            inspect { $0.turn(entries, plan, now: time.nanoseconds) }
        }
    }

    /// What one turn waits for. The entries are: the wake pipe, the listeners, the connections.
    struct Plan: Sendable {
        var entries: [pollfd] = []
        var listeners: [StoreListener] = []
        var connections: [StoreConnectionID] = []
        var timeout: Int32 = -1
    }
}

extension StoreServerState {
    mutating func plan(now: UInt64) -> StoreServerLoop.Plan? {
        guard !isStopping, let wake else { return nil }
        var plan = StoreServerLoop.Plan()
        plan.entries.append(pollfd(fd: wake.reader.rawValue, events: Int16(POLLIN), revents: 0))
        if acceptAfter <= now { plan.listeners = listeners }
        plan.entries += plan.listeners.map { pollfd(fd: $0.socket.rawValue, events: Int16(POLLIN), revents: 0) }
        for (id, socket) in sockets {
            let events = (core.wantsInput(id) ? POLLIN : 0) | (core.unsent.contains(id) ? POLLOUT : 0)
            plan.connections.append(id)
            plan.entries.append(pollfd(fd: socket.rawValue, events: Int16(events), revents: 0))
        }
        plan.timeout = timeout(now: now)
        return plan
    }

    /// Milliseconds until something is to be done without input; rounded up, so as not to spin through the last one.
    private func timeout(now: UInt64) -> Int32 {
        if waiting.contains(where: { core.mayServe($0, now: now) }) { return 0 }
        let deadlines = [core.nextDeadline(now: now), acceptAfter > now ? acceptAfter : nil].compactMap(\.self)
        guard let next = deadlines.min() else { return -1 }
        return Int32(clamping: (next - now) / 1_000_000 + 1)
    }

    mutating func turn(_ entries: [pollfd], _ plan: StoreServerLoop.Plan, now: UInt64) {
        if let wake { drainPipe(wake.reader) }
        for (listener, entry) in zip(plan.listeners, entries.dropFirst()) where entry.revents != 0 { admit(listener, now) }
        for (id, entry) in zip(plan.connections, entries.dropFirst(1 + plan.listeners.count)) where entry.revents != 0 {
            receive(id, hasHungUp: Int32(entry.revents) & (POLLHUP | POLLERR | POLLNVAL) != 0, now)
        }
        for id in waiting {
            _ = core.service(id, now: now)
            if !core.isStalled(id) { waiting.remove(id) }
        }
        for id in core.unsent { flush(id) }
        closeDropped()
    }

    private mutating func admit(_ listener: StoreListener, _ now: UInt64) {
        // It may have been closed since the wait began.
        guard listeners.contains(where: { $0.path == listener.path }) else { return }
        do {
            // A few a turn; poll tells of the rest.
            for _ in 0..<16 {
                guard let socket = try StreamSocket.accept(listener.socket) else { return }
                guard sockets.count < core.limits.connections, listener.admits(socket) else { continue }
                if let most = listener.mostConnections, core.usage(of: listener.domain).connections >= most { continue }
                sockets[core.connect(domain: listener.domain)] = socket
            }
        } catch {
            acceptAfter = now &+ 100_000_000
        }
    }

    private mutating func receive(_ id: StoreConnectionID, hasHungUp: Bool, _ now: UInt64) {
        guard let socket = sockets[id] else { return }
        guard core.wantsInput(id) else {
            // A peer that is gone and whose requests may not be served now: nobody waits for them.
            if hasHungUp && !core.mayServe(id, now: now) { close(id) }
            return
        }
        do {
            let bytes = try StreamSocket.receive(socket.rawValue, capacity: 16384, wait: false)
            if bytes.isEmpty { return close(id) }
            core.feed(bytes, from: id, now: now)
            if core.isStalled(id) { waiting.insert(id) }
        } catch  where error.passes {
            return
        } catch {
            close(id)
        }
    }

    private mutating func flush(_ id: StoreConnectionID) {
        guard let socket = sockets[id] else { return }
        while true {
            let bytes = core.output(id)
            if bytes.isEmpty { return core.didSend(0, to: id) }
            do {
                let sent = try StreamSocket.send(socket.rawValue, bytes[...], wait: false)
                core.didSend(sent, to: id)
                if sent < bytes.count { return }
            } catch  where error.passes {
                return
            } catch {
                return close(id)
            }
        }
    }

    private mutating func close(_ id: StoreConnectionID) {
        core.disconnect(id)
        sockets[id] = nil
        waiting.remove(id)
    }

    mutating func closeDropped() {
        for (id, _) in core.takeDropped() {
            sockets[id] = nil
            waiting.remove(id)
        }
    }
}
