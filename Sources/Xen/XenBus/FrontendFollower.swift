// What follows a frontend's device, whatever its kind: FrontendLife's steps on one thread, the caller's of `run`, and
// the words that other threads have with it. What a step means is the driver's.

import LinuxSystem
import Synchronization
import XenStore
import XenTypes

/// One device of one kind, on the control thread.
public protocol FrontendDriver: AnyObject {
    /// The state that says that rings are published.
    var publishedState: XenbusState { get }
    /// Offers rings and writes their keys and `publishedState`, in one transaction.
    func publish(_ store: StoreClient, to backend: DomainID, at backendPath: String) throws(XenbusError)
    /// Reads what the backend published, puts the rings to use.
    func goLive(_ store: StoreClient, _ backendPath: String) throws(XenbusError)
    /// The backend touched its directory while connected.
    func refresh(_ store: StoreClient, _ backendPath: String) throws(XenbusError)
    /// Stops using the rings and withdraws them; `goLive` may follow later.
    func suspend()
    /// There is nothing more to come: nil if the device was taken away, else what went wrong.
    func giveUp(_ reason: String?)
    /// How far it is.
    /// - Parameter isAsked: whether somebody wanted it so, who ends this side or takes the device away; else the
    ///   backend has gone by itself.
    func changed(to phase: FrontendPhase, isAsked: Bool)
}

/// Follows one device until it is told to stop or the device is gone.
public final class FrontendFollower: Sendable {
    /// The device's directory.
    public let path: FrontendPath
    private let time: any TimeSource
    private let store = Mutex<StoreClient?>(nil)
    private let stopping = Atomic<Bool>(false)
    private let restarting = Atomic<Bool>(false)
    private let broken = Mutex<String?>(nil)
    private let users = Atomic<Int>(0)

    /// Follows the device at `path`, once it runs.
    /// - Parameter time: what its pauses go by.
    public init(path: FrontendPath, time: some TimeSource) {
        self.path = path
        self.time = time
    }

    /// Ends `run`, in the proper order (5, 6); from any thread.
    public func stop() {
        stopping.store(true, ordering: .sequentiallyConsistent)
        store.withLock { $0?.wake() }
    }

    /// Lets go of the rings and offers new ones: those that the backend knew mean nothing any more, as after a suspend;
    /// from any thread.
    public func restart() {
        restarting.store(true, ordering: .relaxed)
        store.withLock { $0?.wake() }
    }

    /// Somebody uses the device from now on, until `endUse`: taken away without force, it stays; from any thread.
    public func beginUse() { users.add(1, ordering: .relaxed) }

    /// Undoes one `beginUse`; from any thread.
    public func endUse() {
        // What was refused before is done now.
        if users.subtract(1, ordering: .relaxed).newValue == 0 { store.withLock { $0?.wake() } }
    }

    /// The backend broke the protocol: `run` says so in the error node and gives up; from any thread.
    public func quarantine(_ reason: String) { fail("the backend broke the protocol: \(reason)") }

    /// The device is of no more use, whoever's doing it is: as `quarantine`; from any thread.
    public func fail(_ reason: String) {
        broken.withLock { $0 = $0 ?? reason }
        store.withLock { $0?.wake() }
    }

    var isStopping: Bool { stopping.load(ordering: .relaxed) }
    /// Whether the device is in use.
    var hasUsers: Bool { users.load(ordering: .relaxed) > 0 }
    /// Why the device is of no more use.
    var brokenReason: String? { broken.withLock { $0 } }

    func takeRestart() -> Bool { restarting.exchange(false, ordering: .relaxed) }
    /// Ends `run` after something that was done already.
    func isDone() { stopping.store(true, ordering: .relaxed) }
    /// Whom `stop` and others wake.
    func use(_ client: StoreClient?) { store.withLock { $0 = client } }

    /// Follows. A store that goes away for a time does not touch the data path; one that is gone for good ends the
    /// device.
    public func run(_ driver: some FrontendDriver, connect: () -> StoreAttempt) {
        var life = FrontendLife(self)
        while true {
            switch life.turn(driver, connect: connect) {
            case .again: continue
            case .after(let milliseconds): time.sleep(milliseconds: milliseconds)
            case .event: life.awaitEvent()
            case .over: return
            }
        }
    }
}
