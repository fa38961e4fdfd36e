// What a controller's driver needs so that another process can go on with the controller: memory by name, and the way
// to the controller itself, which outlive this one.

import LinuxSystem
import SharedMemory

/// What is kept of one controller beyond this process's end. Any thread.
public protocol NVMeKeeping: AnyObject, Sendable {
    /// Whether a predecessor has left something.
    var isLeft: Bool { get }
    /// The ledger's memory: the predecessor's, or zeroes.
    var ledger: SharedRegion { get }
    /// Vectors that a predecessor's controller counts in, by number.
    var vectors: [Descriptor] { get }
    /// Zeroed memory that is kept by this name from now on.
    func memory(_ name: String, byteCount: Int) throws(Errno) -> SharedRegion
    /// Memory that a predecessor had by this name; kept on.
    func left(_ name: String, byteCount: Int) -> SharedRegion?
    /// Is kept no longer.
    func release(_ name: String)
    /// What a predecessor had mapped for the controller is taken away: nothing is under way there.
    func forgetMappings() throws(NVMeError)
    /// Nothing of it is kept: the controller has been shut down.
    func releaseAll()
    /// Whether this process is about to end, and another to go on.
    var isLeaving: Bool { get }
    /// It is.
    func leave()
    /// For tests: called after each store that a successor may find to be the last.
    var observer: (@Sendable () -> Void)? { get }
}

extension NVMeKeeping {
    /// Nobody looks.
    public var observer: (@Sendable () -> Void)? { nil }
}

/// For those who make memory for it.
public enum NVMeLedger {
    /// How much the ledger takes.
    public static var byteCount: Int { ControllerLedger.byteCount }
}

extension NVMePort {
    /// Nothing is kept.
    public var keeping: (any NVMeKeeping)? { nil }
}
