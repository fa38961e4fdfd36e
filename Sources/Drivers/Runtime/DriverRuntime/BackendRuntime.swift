// What every backend service stands on while it serves: a connection to the store, reactor threads, the journals.

import Glibc
import Hypervisor
import LinuxSystem
import Reactor
import XenBus
import XenStore

/// Why a backend service ended or did not start.
public enum BackendError: Error, Sendable, CustomStringConvertible {
    /// The store or the hypervisor is gone, or refused.
    case store(XenbusError)
    /// A thread, a ring or a directory could not be had.
    case system(String)

    /// One line.
    public var description: String {
        switch self {
        case .store(let error): "\(error)"
        case .system(let text): text
        }
    }
}

/// One service's connection, threads and journals.
public struct BackendRuntime {
    /// The service's own connection; the control loop closes it.
    public let store: StoreClient
    /// Running from now on, until `stop`, or the caller's to step.
    public let reactors: [Reactor]
    /// Where this process leaves what a successor needs; nil: nowhere.
    public let journals: JournalDirectory?
    private let kind: DeviceKind

    /// Makes them all, or none.
    /// - Parameters:
    ///   - name: what the reactors' threads begin with.
    ///   - kind: the backend directory that is served: two processes must not serve one.
    ///   - hasThreads: whether the reactors get theirs; else the caller steps them.
    public init(
        _ hypervisor: any Hypervisor, name: String, kind: DeviceKind, reactors count: Int, polling: PollingPolicy,
        journalDirectory: String?, hasThreads: Bool = true
    ) throws(BackendError) {
        self.kind = kind
        do { store = try hypervisor.connectStore() } catch { throw .store(.store(.disconnected("\(error)"))) }
        do throws(BackendError) {
            journals = try journalDirectory.map { path throws(BackendError) in try Self.openJournals(path, kind, hypervisor.time) }
            reactors = try Self.makeReactors(max(1, count), name, polling, hypervisor.time)
        } catch {
            store.close()
            throw error
        }
        do throws(ReactorError) { for reactor in reactors where hasThreads { try reactor.start() } } catch {
            stop()
            store.close()
            throw .system("\(error)")
        }
    }

    private static func openJournals(
        _ path: String, _ kind: DeviceKind, _ time: any TimeSource
    ) throws(BackendError) -> JournalDirectory {
        do throws(Errno) { return try JournalDirectory(path, kind: kind, time: time) } catch {
            throw .system("\(path): \(error.rawValue == EAGAIN ? "another backend serves this domain's \(kind)" : "\(error)")")
        }
    }

    private static func makeReactors(
        _ count: Int, _ name: String, _ polling: PollingPolicy, _ time: any TimeSource
    ) throws(BackendError) -> [Reactor] {
        var reactors: [Reactor] = []
        do throws(Errno) {
            for index in 0..<count { reactors.append(try Reactor(name: "\(name)-\(index)", time: time, polling: polling)) }
        } catch { throw .system("\(ReactorError.notMade(error))") }
        return reactors
    }

    /// Removes the journals of devices that went while no backend was there, and says so.
    public func removeStaleJournals(but devices: Set<DeviceID>, log: (String) -> Void) {
        guard let journals else { return }
        let count = journals.removeStale(of: kind, but: devices)
        if count > 0 { log("\(journals.path): what was left for \(count) devices that are no more is removed") }
    }

    /// Ends the threads, once nothing is in work.
    public func stop() { for reactor in reactors { reactor.stop() } }
}
