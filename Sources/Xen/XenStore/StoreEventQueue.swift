// Watch events that wait for their taker: each at most once, and not without bound whatever happens at the other end
// (attacks.md D4).

/// Pending events, in order of arrival.
struct StoreEventQueue {
    /// Different paths that may wait for one token; beyond, one event on the watched path stands for them all.
    static let perToken = 256

    private var waiting: [WatchEvent] = []
    private var head = 0
    private var known: Set<WatchEvent> = []
    private var countOfToken: [String: Int] = [:]
    /// The paths watched under each token.
    private var watched: [String: [String]] = [:]

    mutating func expect(_ path: String, _ token: String) {
        if watched[token]?.contains(path) != true { watched[token, default: []].append(path) }
    }

    mutating func forget(_ path: String, _ token: String) {
        watched[token]?.removeAll { $0 == path }
        guard watched[token]?.isEmpty == true else { return }
        watched[token] = nil
        drop(token)
    }

    /// Queues an event unless it waits already or nothing is watched under its token.
    mutating func add(_ event: WatchEvent) {
        guard let paths = watched[event.token], known.insert(event).inserted else { return }
        waiting.append(event)
        countOfToken[event.token, default: 0] += 1
        // A peer that makes and removes ever new names must not fill memory here; a watch may fire spuriously, so
        // looking again at all that is watched is right.
        guard countOfToken[event.token, default: 0] > Self.perToken + paths.count else { return }
        drop(event.token)
        for path in paths { add(WatchEvent(path: path, token: event.token)) }
    }

    mutating func take() -> WatchEvent? {
        guard head < waiting.count else { return nil }
        let event = waiting[head]
        head += 1
        known.remove(event)
        countOfToken[event.token, default: 1] -= 1
        if head == waiting.count || head > 1024 {
            waiting.removeFirst(head)
            head = 0
        }
        return event
    }

    private mutating func drop(_ token: String) {
        waiting = waiting[head...].filter { $0.token != token }
        head = 0
        known = known.filter { $0.token != token }
        countOfToken[token] = nil
    }
}
