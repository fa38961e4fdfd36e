// What a backend's control thread asks of one device of one kind. The steps are BackendMachine's; what a step means is
// the driver's.

import LinuxSystem
import XenStore

/// Why a driver could not do a step.
public enum DriverFailure: Error, Sendable, CustomStringConvertible {
    /// The store, or a node in it.
    case xenbus(XenbusError)
    /// The device is out until its frontend goes through a close cycle.
    case refused(number: Int32, String)
    /// What the device is backed by is not to be had now; tried again after a pause that grows.
    case unavailable(number: Int32, String)
    /// Whoever served the frontend's side is gone, without a word in the store.
    case frontendGone
    /// Nothing is wrong, it takes a while: tried again in a moment.
    case later

    /// One line; the number is for the error node alone, where Xen has it.
    public var description: String {
        switch self {
        case .xenbus(let error): "\(error)"
        case .refused(_, let text), .unavailable(_, let text): text
        case .frontendGone: "the frontend is gone"
        case .later: "it takes a while"
        }
    }

    /// Whether the connection to the store is gone.
    var isDisconnected: Bool { if case .xenbus(let error) = self { error.isDisconnected } else { false } }
}

/// One device of one kind, on the control thread.
public protocol BackendDriver: AnyObject {
    /// What queues tell the control thread.
    associatedtype News: Sendable
    /// Whether it holds the frontend's rings.
    var holdsRings: Bool { get }
    /// Whether what backs the device is open.
    var isOpen: Bool { get }
    /// Whether the protocol has states 7 and 8.
    var reconfigures: Bool { get }
    /// Whether failures of this moment are left to whoever reads the error node, and not logged.
    var leavesErrors: Bool { get }
    /// Whether the directory of a device that is closed for good is this backend's to remove, as in a driver domain.
    var removesDirectories: Bool { get }
    /// Whether a successor of this process can go on with the rings: then a stop closes nothing in the store.
    var handsOver: Bool { get }
    /// Whether connecting has to wait, for a hot-plug script that runs, say; the store will change when that is over.
    func isWaiting(_ store: StoreClient) throws(DriverFailure) -> Bool
    /// Opens what backs the device and writes the offer and state 2.
    func announce(_ store: StoreClient) throws(DriverFailure)
    /// Reads the frontend's keys, maps its rings, writes state 4.
    func connect(_ store: StoreClient, _ frontend: String) throws(DriverFailure)
    /// Whether a predecessor left what it takes to go on with its rings.
    func canAdopt() -> Bool
    /// Goes on with a predecessor's rings; the store already says state 4. `unavailable` is tried again while the
    /// frontend waits; any other failure leads to a close cycle.
    func adopt(_ store: StoreClient, _ frontend: String) throws(DriverFailure)
    /// Reads again what the frontend can take.
    func reconfigure(_ store: StoreClient, _ frontend: String) throws(DriverFailure)
    /// Nodes of the backend's directory that may change while it is connected, each with its slash.
    static var settingNodes: Set<Substring> { get }
    /// The same of the frontend's directory.
    static var frontendSettingNodes: [String] { get }
    /// One of those nodes may have changed.
    func reread(_ store: StoreClient, _ frontend: String) throws(XenbusError)
    /// Tells every queue to end what is in work and give everything back; returns how many will report that they have.
    /// - Parameter handingOver: a successor is to go on with the same rings: what it needs for that is left where it
    ///   finds it.
    func closeQueues(handingOver: Bool) -> Int
    /// The device's directory is gone, or nobody is to serve it: lets go of what backs it.
    func letGo()
    /// Acts on news; returns how many queues have closed by it.
    func handle(_ news: News, _ store: StoreClient) throws(DriverFailure) -> Int
    /// Called every so often.
    func tick(_ store: StoreClient) throws(DriverFailure)
}

// What a kind of device without scripts, successors or states of its own does.
extension BackendDriver {
    /// No states 7 and 8.
    public var reconfigures: Bool { false }
    /// Each is logged.
    public var leavesErrors: Bool { false }
    /// Directories are the toolstack's.
    public var removesDirectories: Bool { false }
    /// Stops close the device.
    public var handsOver: Bool { false }
    /// Nothing to wait for.
    public func isWaiting(_ store: StoreClient) throws(DriverFailure) -> Bool { false }
    /// Nothing to take over.
    public func canAdopt() -> Bool { false }
    /// Nothing to take over.
    public func adopt(_ store: StoreClient, _ frontend: String) throws(DriverFailure) {
        throw .refused(.notSupported, "nothing to take over")
    }
    /// Nothing to read again.
    public func reconfigure(_ store: StoreClient, _ frontend: String) throws(DriverFailure) {}
    /// No such nodes.
    public static var settingNodes: Set<Substring> { [] }
    /// No such nodes.
    public static var frontendSettingNodes: [String] { [] }
    /// Nothing to read.
    public func reread(_ store: StoreClient, _ frontend: String) throws(XenbusError) {}
    /// Nothing to look at.
    public func tick(_ store: StoreClient) throws(DriverFailure) {}
}
