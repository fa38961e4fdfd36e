import Synchronization

/// Collects what a service logs.
public final class LineCollector: Sendable {
    private let lines = Mutex<[String]>([])
    /// Nothing yet.
    public init() {}
    /// One more line, from any thread.
    public func add(_ line: String) { lines.withLock { $0.append(line) } }
    /// All of them so far.
    public var all: [String] { lines.withLock { $0 } }
}
