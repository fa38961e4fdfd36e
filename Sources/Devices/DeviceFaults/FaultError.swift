// Why a fault is not set, or not undone.

/// A refusal; nothing was changed.
public enum FaultError: Error, Equatable, Sendable, CustomStringConvertible {
    /// That side of such a device does not know it; these it knows.
    case unknownKind(String, FaultSubject, FaultSide)
    /// An option that means nothing for this kind, there.
    case foreign(String, DeviceFault, FaultSubject, FaultSide)
    /// A value that is none of those there are.
    case badValue(String, String, String)
    /// What no fault can be called.
    case badName(String)
    /// A word that says nothing here.
    case badWord(String)
    /// It is set already.
    case nameTaken(String)
    /// None is called so; these are set.
    case noSuchName(String, set: [String])
    /// As many as may be set are.
    case tooMany(Int)

    /// In one line.
    public var description: String {
        switch self {
        case .unknownKind(let kind, let subject, let side):
            "`\(kind)` is nothing that the \(side) side of \(subject) can do wrong; it knows "
                + DeviceFault.known(subject, side).map(\.rawValue).joined(separator: ", ")
        case .foreign(let option, let kind, let subject, let side):
            "\(option) means nothing for `\(kind)` on the \(side) side of \(subject)"
        case .badValue(let option, let value, let wanted): "\(option): `\(value)` is not \(wanted)"
        case .badName(let name): "`\(name)` is no name for a fault: letters, digits, - and _, and not `all`"
        case .badWord(let word): "`\(word)` says nothing to this process; it may be of another version"
        case .nameTaken(let name): "a fault called \(name) is set already: clear it first, or give this one another --name"
        case .noSuchName(let name, let set):
            "no fault called \(name) is set; there \(set.isEmpty ? "is none" : "are \(set.joined(separator: ", "))")"
        case .tooMany(let count): "\(count) faults are set already, and that is as many as can be"
        }
    }
}
