// Where a tap is found, and what opening it there gives.

import CLinux
import LinuxSystem

/// A tap that somebody may have renamed, or moved into another network namespace.
package struct TapAddress: Sendable {
    /// What it is called now.
    package let name: String
    /// Where it is; nil: in the namespace of the threads that use it.
    package let namespace: NamespaceFile?
    /// What it was called where it was made: whoever keeps it is known by that.
    package let madeAs: String

    /// A tap called `name`, or called so by now.
    package init(name: String, in namespace: NamespaceFile? = nil, madeAs: String? = nil) {
        self.name = name
        self.namespace = namespace
        self.madeAs = madeAs ?? name
    }

    /// Whether another process of ours keeps it. A claim is made where the tap is made.
    var isKept: Bool {
        Set([name, madeAs]).contains { NamespaceClaim.holder(of: "tap/\(TapRole.keeper.rawValue)/\($0)") != nil }
    }
}

/// A tap that was opened in the calling thread's namespace.
struct OpenedTap: Sendable {
    let keeper: Descriptor
    let isSingle: Bool
    /// Nil where claims cannot be made.
    let claim: NamespaceClaim?

    static func open(_ name: String, _ role: TapRole, isKept: Bool, outlives: Bool) -> Result<OpenedTap, TapError> {
        do throws(TapError) {
            let claim = try Self.claim(name, role, isKept: isKept)
            do throws(Errno) {
                let (keeper, isSingle) = try TapQueue.open(name)
                // One of a single queue was there: it is somebody else's, and stays without being told.
                if !isSingle {
                    if outlives { _ = try retryingInterrupts { causeway_tap_persist(keeper.rawValue, 1) } }
                    _ = try retryingInterrupts { causeway_tap_attach_queue(keeper.rawValue, 0) }
                }
                return .success(OpenedTap(keeper: keeper, isSingle: isSingle, claim: claim))
            } catch {
                throw TapError(name: name, doing: doing(error), reason: error, holder: nil)
            }
        } catch { return .failure(error) }
    }

    /// The same by a descriptor of it, which a predecessor of this process had.
    static func adopt(_ keeper: Descriptor, _ role: TapRole) -> Result<OpenedTap, TapError> {
        do throws(TapError) {
            guard let name = TapQueue.name(of: keeper) else {
                throw TapError(name: "\(keeper)", doing: "go on with it: it is gone", reason: .noSuchDevice, holder: nil)
            }
            let claim: NamespaceClaim?
            do throws(ClaimError) { claim = try NamespaceClaim("tap/\(role.rawValue)/\(name)") } catch {
                if case .taken(let holder) = error { throw TapError(name: name, doing: "use it", reason: .busy, holder: holder) }
                claim = nil
            }
            return .success(OpenedTap(keeper: keeper, isSingle: TapQueue.isSingle(keeper), claim: claim))
        } catch { return .failure(error) }
    }

    private static func doing(_ reason: Errno) -> String {
        switch reason {
        case .invalidArgument: "open it: it is no tap"
        case .busy: "open it: its one queue is another program's"
        default: "open it"
        }
    }

    private static func claim(_ name: String, _ role: TapRole, isKept: Bool) throws(TapError) -> NamespaceClaim? {
        let claim: NamespaceClaim?
        do throws(ClaimError) { claim = try NamespaceClaim("tap/\(role.rawValue)/\(name)") } catch {
            if case .taken(let holder) = error { throw TapError(name: name, doing: "use it", reason: .busy, holder: holder) }
            claim = nil
        }
        // With a keeper its carrier says nothing; without one whoever gives it a carrier is no program of ours.
        if role == .keeper || !isKept, HostInterface.isRunning(name) {
            throw TapError(name: name, doing: "use it, for another program does", reason: .busy, holder: nil)
        }
        return claim
    }
}
