// A client's socket to the daemon: one request at a time, from any thread.

import Glibc
import Hypervisor
import LinuxSystem
import Synchronization
import XenTypes

final class RequestSocket: Sendable {
    private struct State {
        var sequence: UInt32 = 0
        /// Why nothing more can be asked.
        var broken: String?
        /// Other sockets to the same daemon, which end with this one.
        var companions: [WeakDescriptor] = []
    }
    private struct WeakDescriptor { weak var value: Descriptor? }
    private let socket: Descriptor
    private let time: any TimeSource
    private let state = Mutex(State())

    /// An answer is waited for as long as the daemon lives: one that stands still (stopped, frozen, swapped out) goes
    /// on some time, and what it held for this process with it.
    init(_ socket: Descriptor, _ time: any TimeSource) throws(HypervisorError) {
        self.socket = socket
        self.time = time
        try describing("preparing a socket") { () throws(Errno) in try socket.setNonBlocking(false) }
    }

    /// Why nothing can be asked any more; nil as long as it can.
    var broken: String? { state.withLock { $0.broken } }

    /// From now on `descriptor` is shut down when no more can be asked: half a connection to the daemon is of no use to
    /// anybody.
    func accompany(_ descriptor: Descriptor) {
        state.withLock { state in
            if state.broken != nil { descriptor.shutDown() }
            state.companions.removeAll { $0.value == nil }
            state.companions.append(WeakDescriptor(value: descriptor))
        }
    }

    /// Nothing more can be asked, for the first reason that is given.
    func fail(_ reason: String) { state.withLock { fail(&$0, reason) } }

    private func fail(_ state: inout State, _ reason: String) {
        state.broken = state.broken ?? reason
        socket.shutDown()
        for companion in state.companions { companion.value?.shutDown() }
    }

    /// Asks, and hands the answer to `body` while no other request is under way and no notice is looked at, so that
    /// what the answer names is known before a notice speaks of it.
    func ask<R: Sendable>(
        _ request: Request, _ body: (Answer, [Descriptor]) throws(HypervisorError) -> R?
    ) throws(HypervisorError) -> R {
        do throws(AskFailure) {
            return try attempt(request, body)
        } catch {
            switch error {
            case .refused(let refusal): throw HypervisorError(refusal, request)
            case .lost(let reason): throw .disconnected(reason)
            case .given(let error): throw error
            }
        }
    }

    /// As `ask`, for whoever wants to know what the daemon itself said.
    func attempt<R: Sendable>(
        _ request: Request, _ body: (Answer, [Descriptor]) throws(HypervisorError) -> R?
    ) throws(AskFailure) -> R {
        try state.withLock { state throws(AskFailure) in
            if let broken = state.broken { throw .lost(broken) }
            state.sequence &+= 1
            let answer: Answer
            let descriptors: [Descriptor]
            do throws(Breach) { (answer, descriptors) = try exchange(request, state.sequence) } catch {
                fail(&state, error.reason)
                throw .lost(error.reason)
            }
            if case .refused(let refusal) = answer { throw .refused(refusal) }
            let result: R?
            do throws(HypervisorError) { result = try body(answer, descriptors) } catch { throw .given(error) }
            guard let result else {
                fail(&state, "the daemon answered something else")
                throw .lost("the daemon answered something else")
            }
            return result
        }
    }

    /// Runs `body` while no request is under way.
    func whileIdle(_ body: () -> Void) { state.withLock { _ in body() } }

    func close() {
        // Also ends an exchange that is under way, which holds the lock.
        socket.shutDown()
        state.withLock { $0.broken = $0.broken ?? "closed" }
    }

    /// Why an exchange was the last.
    private struct Breach: Error, CustomStringConvertible {
        let reason: String
        var description: String { reason }
    }

    private func exchange(_ request: Request, _ sequence: UInt32) throws(Breach) -> (Answer, [Descriptor]) {
        let message: [UInt8]
        let descriptors: [Descriptor]
        do throws(Errno) {
            let bytes = request.encode(sequence: sequence)
            try outlastingShortage(time) { () throws(Errno) in try PacketSocket.send(socket, bytes) }
            (message, descriptors) = try outlastingShortage(time) { () throws(Errno) in
                try PacketSocket.receive(socket, descriptors: PacketSocket.mostDescriptors)
            }
        } catch {
            throw Breach(
                reason: error == .brokenPipe || error == .connectionReset
                    ? "the host has ended" : "the host does not answer: \(error)")
        }
        guard !message.isEmpty else { throw Breach(reason: "the host has ended") }
        guard let (answer, echoed) = try? Answer.decode(message), echoed == sequence else {
            throw Breach(reason: "the daemon's answer makes no sense")
        }
        return (answer, descriptors)
    }
}

/// Why there is no result.
enum AskFailure: Error, CustomStringConvertible {
    /// The daemon did not do it.
    case refused(Refusal)
    /// There is no daemon any more.
    case lost(String)
    /// What was to be made of the answer failed.
    case given(HypervisorError)

    var description: String {
        switch self {
        case .refused(let refusal): "\(refusal)"
        case .lost(let reason): reason
        case .given(let error): "\(error)"
        }
    }
}

extension HypervisorError {
    init(_ refusal: Refusal, _ request: Request) {
        switch refusal {
        case .noSuchDomain(let domain): self = .noSuchDomain(domain)
        case .domainBusy(let domain): self = .exhausted("domain \(domain): the number is taken")
        case .noSuchRun: self = .disconnected("the daemon does not know a run of ours")
        case .port(let port, let reason): self = .portRefused(port, of: request.remote, reason: reason)
        case .limit(let what, let size): self = .exhausted("\(what), of which there may be at most \(size)")
        case .badCount(let count): self = .exhausted("a run of \(count) pages")
        case .noSuchMapping: self = .disconnected("the daemon does not know a mapping of ours")
        case .notWritable: self = .exhausted("a byte of a page that may only be read")
        case .virqTaken(let number): self = .exhausted("virtual interrupt \(number)")
        case .notAllowed: self = .disconnected("the daemon does not allow this connection to do that")
        case .system(let text): self = .system(text, doing: "serving a request in the daemon")
        }
    }
}
