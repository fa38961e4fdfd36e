// What can be wrong with a controller or a namespace before it serves. Later, in I/O, it is an `Errno` in the request's
// result and a line in the log.

import LinuxSystem

/// Why a controller cannot be driven, or a namespace not be a disk.
public enum NVMeError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Its registers read as all ones.
    case gone
    /// It was to become ready, or to stop, and did not in so many milliseconds.
    case notReady(Bool, milliseconds: Int, status: UInt32)
    /// It says that it has failed (CSTS.CFS).
    case fatal
    /// Another one is in its place.
    case another
    /// It lacks what is needed: what.
    case unsupported(String)
    /// A command that was needed failed: which, and its status.
    case command(String, NVMeStatus)
    /// A command that was needed was not answered.
    case unanswered(String, milliseconds: Int)
    /// Memory, descriptors or mappings cannot be had: what, and why.
    case resources(String, reason: String, Errno)
    /// Something else is in the way: what.
    case obstacle(String, Errno)
    /// No namespace of this number is active; those that are.
    case noNamespace(UInt32, active: [UInt32])
    /// There are several, and none was named.
    case whichNamespace([UInt32])
    /// Its blocks have metadata: bytes each.
    case metadata(UInt32, byteCount: Int)
    /// Its blocks have another size than a disk's sectors may have.
    case blockSize(UInt32, shift: Int)
    /// Another disk of this process has it.
    case inUse(UInt32)

    /// One line.
    public var description: String {
        switch self {
        case .gone: "its registers read as all ones: it was removed, or has lost its power"
        case .notReady(let on, let limit, let status):
            "it did not \(on ? "become ready" : "stop") in \(limit) ms (CSTS 0x\(String(status, radix: 16)))"
        case .fatal: "it says that it has failed (CSTS.CFS); a reset of the PCI function or a power cycle may help"
        case .another: "another controller is in its place"
        case .unsupported(let what): "it has no \(what)"
        case .command(let what, let status): "\(what): \(status)"
        case .unanswered(let what, let limit): "\(what): no answer in \(limit) ms"
        case .resources(let what, let reason, _): "\(what): \(reason)"
        case .obstacle(let what, _): what
        case .noNamespace(let number, let active):
            "it has no active namespace \(number)" + (active.isEmpty ? ", and no other" : "; there are \(Self.list(active))")
        case .whichNamespace(let active): "it has the namespaces \(Self.list(active)): name one, as in nvme:ADDRESS/\(active[0])"
        case .metadata(let number, let count):
            "namespace \(number): each of its blocks has \(count) bytes of metadata, which is not served; format it without "
                + "(nvme format --lbaf)"
        case .blockSize(let number, let shift): "namespace \(number): blocks of 2^\(shift) bytes; 512 to 4096 can be served"
        case .inUse(let number): "namespace \(number) is another disk's of this process"
        }
    }

    /// The number for it.
    public var number: Errno {
        switch self {
        case .gone, .another: .noSuchDevice
        case .notReady, .fatal, .unanswered: .ioError
        case .unsupported, .metadata, .blockSize: .notSupported
        case .command(_, let status): status.errno
        case .resources(_, _, let number), .obstacle(_, let number): number
        case .noNamespace: .noSuchAddressOrDevice
        case .whichNamespace: .invalidArgument
        case .inUse: .busy
        }
    }

    private static func list(_ numbers: [UInt32]) -> String { numbers.map(String.init).joined(separator: ", ") }
}
