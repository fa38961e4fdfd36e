// The server's thread: poll, read, serve, send. All rules are in StoreCore; this only moves bytes.

import Glibc
import LinuxSystem
import Synchronization
import XenStore
import XenTypes

/// What the thread and the callers share, under one lock: store traffic is control traffic.
struct StoreServerState: ~Copyable {
    var core: StoreCore
    var sockets: [StoreConnectionID: Descriptor] = [:]
    var listeners: [StoreListener] = []
    /// Connections with a whole request that could not be served at once.
    var waiting: Set<StoreConnectionID> = []
    /// Who has sent something, in the order in which they are served.
    var lines = FairLines<DomainID, StoreConnectionID>()
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
            state.lines = FairLines()
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
            inspect { $0.turn(entries, plan, time) }
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
        if !lines.isEmpty || waiting.contains(where: { core.mayServe($0, now: now) }) { return 0 }
        let deadlines = [core.nextDeadline(now: now), acceptAfter > now ? acceptAfter : nil].compactMap(\.self)
        guard let next = deadlines.min() else { return -1 }
        return Int32(clamping: (next - now) / 1_000_000 + 1)
    }

    mutating func turn(_ entries: [pollfd], _ plan: StoreServerLoop.Plan, _ time: any TimeSource) {
        if let wake { drainPipe(wake.reader) }
        let now = time.nanoseconds
        for (listener, entry) in zip(plan.listeners, entries.dropFirst()) where entry.revents != 0 { admit(listener, now) }
        for (id, entry) in zip(plan.connections, entries.dropFirst(1 + plan.listeners.count)) where entry.revents != 0 {
            let events = Int32(entry.revents)
            let hasHungUp = events & (POLLHUP | POLLERR | POLLNVAL) != 0
            if hasHungUp, !core.wantsInput(id), !core.mayServe(id, now: now) {
                // A peer that is gone and whose requests may not be served now: nobody waits for them.
                close(id)
            } else if hasHungUp || events & POLLIN != 0 {
                join(id)
            }
        }
        for id in waiting where core.mayServe(id, now: now) { join(id) }
        for owner in lines.owners { serve(owner, time) }
        for id in core.unsent { flush(id) }
        closeDropped()
    }

    private mutating func join(_ id: StoreConnectionID) {
        if let domain = core.domain(of: id) { lines.join(id, of: domain) }
    }

    /// A domain's connections, one after another, as long as its share of the turn lasts.
    private mutating func serve(_ domain: DomainID, _ time: any TimeSource) {
        let end = time.nanoseconds &+ FairLines<DomainID, StoreConnectionID>.share
        var now = end &- FairLines<DomainID, StoreConnectionID>.share
        while let id = lines.next(of: domain) {
            if core.isStalled(id) { _ = core.service(id, now: now, budget: 1) } else { receive(id, now) }
            var isOver = false
            repeat {
                now = time.nanoseconds
                isOver = now >= end
            } while !isOver && core.service(id, now: now, budget: 1)
            flush(id)
            if core.isStalled(id) {
                waiting.insert(id)
                if core.mayServe(id, now: now) { lines.join(id, of: domain) }
            } else {
                waiting.remove(id)
            }
            if isOver { return }
        }
    }

    /// Whether one more connection of a domain is within its share: as many as it leaves to the others, an eighth being
    /// domain 0's.
    func hasRoom(for domain: DomainID) -> Bool {
        let most = core.limits.connections
        if domain == .zero { return sockets.count < most }
        return core.usage(of: domain).connections + 1 < most - most / 8 - sockets.count
    }

    private mutating func admit(_ listener: StoreListener, _ now: UInt64) {
        // It may have been closed since the wait began.
        guard listeners.contains(where: { $0.path == listener.path }) else { return }
        do {
            // A few a turn; poll tells of the rest.
            for _ in 0..<16 {
                guard let socket = try StreamSocket.accept(listener.socket) else { return }
                guard hasRoom(for: listener.domain), listener.admits(socket) else { continue }
                if let most = listener.mostConnections, core.usage(of: listener.domain).connections >= most { continue }
                sockets[core.connect(domain: listener.domain)] = socket
            }
        } catch {
            acceptAfter = now &+ 100_000_000
        }
    }

    /// Takes in what a peer has sent and serves the first of it.
    private mutating func receive(_ id: StoreConnectionID, _ now: UInt64) {
        guard let socket = sockets[id] else { return }
        do {
            let bytes = try StreamSocket.receive(socket.rawValue, capacity: 16384, wait: false)
            if bytes.isEmpty { return close(id) }
            core.feed(bytes, from: id, now: now, budget: 1)
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
        forget(id)
    }

    mutating func closeDropped() {
        for (id, _) in core.takeDropped() { forget(id) }
    }

    private mutating func forget(_ id: StoreConnectionID) {
        sockets[id] = nil
        waiting.remove(id)
        lines.leave(id)
    }
}
