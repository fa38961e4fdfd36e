// What can go wrong between a specification and a connected device.

import XenStore
import XenTypes

/// The toolstack's errors; each says what it was about, so that a command prints it as it is.
public enum ToolstackError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A disk or vif specification that does not parse.
    case specification(SpecificationError)
    /// The store refused or the connection broke, while `doing`.
    case store(StoreError, doing: String)
    /// The device is already in the store.
    case deviceExists(String, domain: DomainID)
    /// No such device.
    case noSuchDevice(String, domain: DomainID)
    /// No such domain (by name or number).
    case noSuchDomain(String)
    /// The peer did not do its step in time: `waitingFor` names the step, `seen` what the store said last.
    case timedOut(waitingFor: String, seen: String, milliseconds: Int)
    /// The frontend keeps the device, which it was asked to give up without force: its words.
    case inUse(String)
    /// One side reported an error in its error node.
    case deviceFailed(String)
    /// A configuration that xl knows and this toolstack cannot carry out.
    case unsupported(String)

    /// One sentence, without the command's name.
    public var description: String {
        switch self {
        case .specification(let error): return error.description
        case .store(let error, let doing): return "\(doing): \(error)"
        case .deviceExists(let device, let domain): return "\(device): domain \(domain) already has this device"
        case .noSuchDevice(let device, let domain): return "\(device): domain \(domain) has no such device"
        case .noSuchDomain(let name): return "\(name): no such domain"
        case .timedOut(let step, let seen, let milliseconds):
            return "\(step): not done after \(milliseconds) ms (\(seen))"
        case .inUse(let reason): return "in use (the frontend says: \(reason)); with --force it is taken away all the same"
        case .deviceFailed(let message): return message
        case .unsupported(let message): return message
        }
    }
}

/// Runs `body`; a store's refusal is thrown as a toolstack error that says what was being done.
func storing<R>(_ doing: String, _ body: () throws(StoreError) -> R) throws(ToolstackError) -> R {
    do { return try body() } catch { throw .store(error, doing: doing) }
}
