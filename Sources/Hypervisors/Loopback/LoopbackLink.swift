// A connection to the daemon inside a program that is not ours (Xen's libraries): no thread of its own, no signal
// touched, nothing kept open that need not be. Who has it lays the pages out and waits for the bells by himself.
//
// The daemon's notices lie in their socket until `hear`. Nothing is late for that: the daemon queues what a request
// depends on before it answers the peer's, and whoever rings nobody, or is about to map or to give up, hears first.

import Glibc
import Hypervisor
import HypervisorRules
import LinuxSystem
import SharedMemory
import Synchronization
import XenTypes

/// Why the daemon, or this side, did not do it.
package struct LinkFailure: Error, CustomStringConvertible {
    /// What a call of Xen's libraries says of it (errno).
    package let error: Errno
    /// One clause for a log.
    package let reason: String
    /// The same.
    package var description: String { reason }

    package init(_ error: Errno, _ reason: String) {
        self.error = error
        self.reason = reason
    }
}

/// One process's connection as a domain. Thread-safe.
package final class LoopbackLink: Sendable {
    /// The domain of this process.
    package let domain: DomainID
    let requests: RequestSocket
    let state = Mutex(State())
    private let socket: Descriptor
    private let notices: Descriptor
    private let isAbandoned = Atomic<Bool>(false)

    struct State {
        var table = GranterTable()
        /// References of runs given up while mapped, freed when the daemon says that the last mapping has ended.
        var deferred: [RunID: [GrantReference]] = [:]
        var runs: [RunView: LinkedRun] = [:]
        var ports: [PortID: WeakPort] = [:]
    }

    /// A peer's run: its descriptor only until it is mapped.
    struct LinkedRun {
        var descriptor: Descriptor?
        let byteCount: Int
        /// Where its pages are in the host's machine.
        let machine: MachineRun
        var region: SharedRegion?
    }

    struct WeakPort { weak var port: LinkedPort? }

    /// Connects as `domain`.
    package init(runDirectory: String, domain: DomainID, time: some TimeSource) throws(LinkFailure) {
        let path = LoopbackHost.socketPath(in: runDirectory)
        let socket: Descriptor
        do throws(Errno) { socket = try PacketSocket.connect(path) } catch {
            // A socket that nobody serves is a device that is not there.
            throw LinkFailure(
                error.rawValue == ECONNREFUSED ? .noSuchFile : error, "\(path): \(error); is `causeway host` running?")
        }
        do throws(HypervisorError) { requests = try RequestSocket(socket, time) } catch {
            throw LinkFailure(.noMemory, "\(error)")
        }
        do throws(AskFailure) {
            (self.domain, notices) = try requests.attempt(.hello(.domain(domain))) { answer, descriptors in
                guard case .welcome(let domain) = answer, descriptors.count == 1 else { return nil }
                return (domain, descriptors[0])
            }
        } catch {
            switch error {
            case .refused(.noSuchDomain): throw LinkFailure(.noSuchDevice, "\(path): there is no domain \(domain)")
            case .refused(.notAllowed):
                throw LinkFailure(Errno(EACCES), "\(path): this user may not act as domain \(domain)")
            default: throw LinkFailure(error)
            }
        }
        self.socket = socket
        try? notices.setNonBlocking(true)
    }

    deinit { requests.close() }

    /// Why nothing can be asked any more; nil as long as it can.
    package var loss: String? { requests.broken }

    /// Whether the daemon has ended the connection, or is gone; seen before anything is asked.
    package var isLost: Bool {
        if loss != nil { return true }
        var entries = [pollfd(fd: socket.rawValue, events: 0, revents: 0)]
        return (try? waitForEvents(&entries, milliseconds: 0)) == 1
    }

    /// In a forked child: closes its copies of the connection's descriptors, once. Nothing is said to the daemon.
    package func abandon() {
        guard !isAbandoned.exchange(true, ordering: .relaxed) else { return }
        for descriptor in [socket, notices] { _ = Glibc.close(descriptor.rawValue) }
    }

    // MARK: Requests

    func ask<R: Sendable>(
        _ request: Request, _ body: (Answer, [Descriptor]) -> R?
    ) throws(LinkFailure) -> R {
        do throws(AskFailure) {
            return try requests.attempt(request) { (answer, descriptors) throws(HypervisorError) in body(answer, descriptors) }
        } catch { throw LinkFailure(error) }
    }

    // MARK: Notices

    /// Whether there is something to hear; no more than a glance.
    var hasNews: Bool { (try? waitReadable(notices.rawValue, milliseconds: 0)) ?? false }

    /// Takes what the daemon has said unasked.
    package func hear() {
        // While no request is under way: what a notice is about may still be in an answer.
        var ring: [LinkedPort] = []
        requests.whileIdle {
            while let (message, descriptors) = try? PacketSocket.receive(notices, descriptors: 4), !message.isEmpty {
                guard let notice = try? Notice.decode(message) else { return }
                if let port = take(notice, descriptors) { ring.append(port) }
            }
        }
        // Whoever is new at the other end has not had what was rung since they bound.
        for port in ring { port.ring(hearing: nil) }
    }

    /// Acts on a notice; the port that has a new peer.
    private func take(_ notice: Notice, _ descriptors: [Descriptor]) -> LinkedPort? {
        switch notice {
        case .runGone(let run):
            let gone = state.withLock { state in
                [GrantAccess.readOnly, .readWrite].map { state.runs.removeValue(forKey: RunView(run: run, access: $0)) }
            }
            // Unmapped here, with the lock given back.
            _ = gone
            return nil
        case .runEnded(let run):
            state.withLock { state in
                for reference in state.deferred.removeValue(forKey: run) ?? [] { _ = state.table.end(reference) }
            }
            return nil
        case .portBound(let id):
            let port = state.withLock { $0.ports[id]?.port }
            port?.connect(descriptors.first)
            return port
        case .portUnbound(let id):
            state.withLock { $0.ports[id]?.port }?.connect(nil)
            return nil
        }
    }
}

extension LinkFailure {
    init(_ failure: AskFailure) {
        switch failure {
        case .refused(let refusal): self.init(refusal)
        case .lost(let reason): self.init(.ioError, reason)
        case .given(let error): self.init(.ioError, "\(error)")
        }
    }

    /// The numbers that Xen and the kernel's devices answer with.
    private init(_ refusal: Refusal) {
        switch refusal {
        case .noSuchDomain(let domain): self.init(.noSuchProcess, "domain \(domain): no such domain")
        case .domainBusy(let domain): self.init(.busy, "domain \(domain): the number is taken")
        case .noSuchRun: self.init(.invalidArgument, "the daemon does not know these pages")
        case .port(let port, let reason): self.init(.invalidArgument, "port \(port): \(reason)")
        case .limit(let what, let size): self.init(.noSpace, "\(what), of which there may be at most \(size)")
        case .badCount(let count): self.init(.noSpace, "\(count) pages at once")
        case .noSuchMapping: self.init(.invalidArgument, "the daemon does not know this mapping")
        case .notWritable: self.init(.invalidArgument, "a byte of a page that may only be read")
        case .virqTaken(let number): self.init(.exists, "virtual interrupt \(number): somebody has it")
        case .notAllowed: self.init(Errno(EACCES), "this domain may not ask for that")
        case .system(let text): self.init(.noMemory, text)
        }
    }
}
