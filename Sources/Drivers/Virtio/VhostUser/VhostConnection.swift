// A front end's connection on a thread of its own: one message after another, as the session wants it. What takes long
// (a ring that is stopped, memory that every queue must take) is waited for here, and nowhere that data goes by.

import Glibc
import LinuxSystem

/// Why a device cannot do what a front end asks.
public struct VhostRefusal: Error, Equatable, CustomStringConvertible {
    /// In words.
    public let description: String
    /// With these words.
    public init(_ description: String) { self.description = description }
}

/// A device that front ends use, one after another. Everything is called on the connection's thread.
public protocol VhostDevice: AnyObject, Sendable {
    /// What is offered to the next front end.
    var offer: VhostOffer { get }
    /// Does what the session asks, and returns when it is done. Of a ring that was stopped: where to go on.
    func perform(_ task: VhostTask) throws(VhostRefusal) -> UInt32?
    /// A part of the configuration space, as long as there is any.
    func configuration(from offset: Int, byteCount: Int) -> [UInt8]
    /// Comes by about once a second as long as nobody asks anything.
    func idle()
    /// The front end is gone: every ring is to be stopped, its memory let go.
    func disconnected()
}

/// One front end's connection.
public final class VhostConnection: Sendable {
    private let socket: Descriptor
    private let device: any VhostDevice

    /// A connection that nobody has read from.
    public init(_ socket: Descriptor, _ device: any VhostDevice) {
        self.socket = socket
        self.device = device
    }

    /// Ends the connection from any thread; `run` returns.
    public func close() { socket.shutDown() }

    /// Serves the front end until it is gone; why, if that was not its wish. On a thread of its own.
    public func run() -> String? {
        defer { device.disconnected() }
        var session = VhostSession(device.offer)
        var assembler = VhostAssembler()
        do throws(Errno) { try socket.setTimeout(SO_RCVTIMEO, seconds: 1) } catch { return "\(error)" }
        while true {
            let received: ([UInt8], [Descriptor])
            do throws(Errno) {
                received = try StreamSocket.receive(socket, capacity: assembler.wanted, descriptors: VhostLimits.regionsInMessage)
            } catch {
                if error == .wouldBlock {
                    device.idle()
                    continue
                }
                return error == .connectionReset ? nil : "\(error)"
            }
            if received.0.isEmpty { return nil }
            do throws(VhostUserError) {
                guard let envelope = try assembler.take(received.0, received.1) else { continue }
                if let trouble = handle(envelope, &session) { return trouble }
            } catch { return "\(error)" }
        }
    }

    /// Handles a message and answers it; why the connection has to end, if it has.
    private func handle(_ envelope: VhostEnvelope, _ session: inout VhostSession) -> String? {
        var (answer, trouble): (VhostAnswer?, String?)
        do throws(VhostUserError) {
            switch try session.handle(envelope) {
            case .done(let done): answer = done
            case .perform(.readConfiguration(let offset, let byteCount)):
                answer = session.configuration(device.configuration(from: offset, byteCount: byteCount))
            case .perform(let task): (answer, trouble) = perform(task, envelope, &session)
            }
        } catch { (answer, trouble) = refuse(envelope, &session, "\(error)") }
        guard let answer else { return trouble }
        do throws(Errno) { try PacketSocket.send(socket, answer.bytes, answer.descriptor.map { [$0] } ?? []) } catch {
            return "\(error)"
        }
        return trouble
    }

    private func perform(
        _ task: VhostTask, _ envelope: VhostEnvelope, _ session: inout VhostSession
    ) -> (VhostAnswer?, String?) {
        do throws(VhostRefusal) {
            var base = try device.perform(task)
            while let next = session.next(after: base) { base = try device.perform(next) }
            return (base.map { session.stopped($0) } ?? session.finish(), nil)
        } catch { return refuse(envelope, &session, "\(error)") }
    }

    /// A refusal is said where it can be; else the connection ends, which is the only other word there is.
    private func refuse(
        _ envelope: VhostEnvelope, _ session: inout VhostSession, _ reason: String
    ) -> (VhostAnswer?, String?) {
        let answer = session.refusal(of: envelope)
        return (answer, answer == nil ? reason : nil)
    }
}
