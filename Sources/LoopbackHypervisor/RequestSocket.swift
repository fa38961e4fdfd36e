// A client's socket to the daemon: one request at a time, from any thread.

import Glibc
import Hypervisor
import LinuxSystem
import Synchronization
import XenWire

final class RequestSocket: Sendable {
    private struct State {
        var sequence: UInt32 = 0
        /// Why nothing more can be asked.
        var broken: String?
    }
    private let socket: Descriptor
    private let state = Mutex(State())

    /// How long the daemon may take for one answer.
    private static let patience = timeval(tv_sec: 30, tv_usec: 0)

    init(_ socket: Descriptor) throws(HypervisorError) {
        self.socket = socket
        var patience = Self.patience
        let size = socklen_t(MemoryLayout<timeval>.size)
        let number = socket.rawValue
        try describing("preparing a socket") { () throws(Errno) in
            try socket.setNonBlocking(false)
            try retryingInterrupts { unsafe setsockopt(number, SOL_SOCKET, SO_RCVTIMEO, &patience, size) }
        }
    }

    /// Asks, and hands the answer to `body` while no other request is under way and no notice is looked at, so that what the
    /// answer names is known before a notice speaks of it.
    func ask<R: Sendable>(
        _ request: Request, _ body: (Answer, [Descriptor]) throws(HypervisorError) -> R?
    ) throws(HypervisorError) -> R {
        try state.withLock { state throws(HypervisorError) in
            if let broken = state.broken { throw .disconnected(broken) }
            state.sequence &+= 1
            let answer: Answer
            let descriptors: [Descriptor]
            do throws(HypervisorError) {
                (answer, descriptors) = try exchange(request, state.sequence)
            } catch {
                state.broken = "\(error)"
                shutdown(socket.rawValue, Int32(SHUT_RDWR))
                throw error
            }
            if case .refused(let refusal) = answer { throw HypervisorError(refusal, request) }
            guard let result = try body(answer, descriptors) else {
                state.broken = "the daemon answered something else"
                shutdown(socket.rawValue, Int32(SHUT_RDWR))
                throw .disconnected("the daemon answered something else")
            }
            return result
        }
    }

    /// Runs `body` while no request is under way.
    func whileIdle(_ body: () -> Void) { state.withLock { _ in body() } }

    func close() {
        shutdown(socket.rawValue, Int32(SHUT_RDWR))
        state.withLock { $0.broken = $0.broken ?? "closed" }
    }

    private func exchange(_ request: Request, _ sequence: UInt32) throws(HypervisorError) -> (Answer, [Descriptor]) {
        let message: [UInt8]
        let descriptors: [Descriptor]
        do throws(Errno) {
            try PacketSocket.send(socket, request.encode(sequence: sequence))
            (message, descriptors) = try PacketSocket.receive(socket, descriptors: PacketSocket.mostDescriptors)
        } catch {
            throw .disconnected("the daemon does not answer: \(error)")
        }
        guard !message.isEmpty else { throw .disconnected("the daemon has closed the connection") }
        guard let (answer, echoed) = try? Answer.decode(message), echoed == sequence else {
            throw .disconnected("the daemon's answer makes no sense")
        }
        return (answer, descriptors)
    }
}

extension HypervisorError {
    init(_ refusal: Refusal, _ request: Request) {
        switch refusal {
        case .noSuchDomain(let domain): self = .portRefused(EventPort(0), of: domain, reason: "no such domain")
        case .domainBusy(let domain): self = .exhausted("domain \(domain): the number is taken")
        case .noSuchRun: self = .disconnected("the daemon does not know a run of ours")
        case .port(let port, let reason): self = .portRefused(port, of: request.remote, reason: reason)
        case .limit(let what, let size): self = .exhausted("\(what), of which there may be at most \(size)")
        case .badCount(let count): self = .exhausted("a run of \(count) pages")
        case .notAllowed: self = .disconnected("the daemon does not allow this connection to do that")
        case .system(let text): self = .system(text, doing: "serving a request in the daemon")
        }
    }
}
