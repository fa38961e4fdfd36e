// Where a tap is now: an administrator may rename it, move it into another network namespace, resize it, or delete it,
// while it is in use. Its queues go on wherever it is; what goes by its name is done where it is.

import LinuxSystem

/// What a tap is called and where it is.
package struct TapPlace: Equatable, Sendable {
    /// What it is called.
    package let name: String
    /// Its number there.
    package let index: UInt32
    /// The namespace's number; nil: the calling thread's own.
    package let namespace: UInt64?
}

extension TapDevice {
    /// Where it is now; nil if it is gone.
    package var place: TapPlace? {
        guard let name = TapQueue.name(of: keeper) else { return nil }
        guard let other else { return TapPlace(name: name, index: HostInterface.index(of: name) ?? 0, namespace: nil) }
        // Where this process may not go it is taken for what it was: the number usually stays.
        let index = (try? other.run { HostInterface.index(of: name) }) ?? nil
        return TapPlace(name: name, index: index ?? 0, namespace: other.number)
    }

    /// Whether a process of ours moves the frames of the tap `name` of the calling thread's namespace.
    package static func isInUse(_ name: String) -> Bool {
        NamespaceClaim.holder(of: "tap/\(TapRole.driver.rawValue)/\(name)") != nil
    }

    /// The namespace that it is in, if that is not the calling thread's.
    private var other: NamespaceFile? {
        guard let there = TapQueue.namespace(of: keeper), let here = NamespaceFile.own, there.number != here else { return nil }
        return there
    }

    /// Does what goes by the interface's name, where it is.
    func inPlace<R: Sendable>(_ body: @escaping @Sendable (String) throws(Errno) -> R) throws(Errno) -> R {
        guard let name = TapQueue.name(of: keeper) else {
            noteGone()
            throw .noSuchDevice
        }
        guard let other else { return try body(name) }
        let outcome: Result<R, Errno>
        do throws(NamespaceError) {
            outcome = try other.run { do throws(Errno) { return .success(try body(name)) } catch { return .failure(error) } }
        } catch { throw error.reason }
        return try outcome.get()
    }

    /// Looks whether it is still there; whoever watches its carrier is told once if it is not.
    package func look() { if TapQueue.name(of: keeper) == nil { noteGone() } }

    /// This process has no more to do with it: another may use it, though whoever moved its frames here may not have
    /// let go of it yet.
    package func endUse() { state.withLock { $0.claim = nil } }

    /// The interface is no more.
    func noteGone() {
        let watcher = state.withLock { state -> (@Sendable () -> Void)? in
            if state.isGone { return nil }
            state.isGone = true
            // The name is free for another.
            state.claim = nil
            return state.watcher
        }
        watcher?()
    }

    /// Lowers its MTU to what has a way, if somebody has set it higher, and raises it to what it was when more has.
    package func keepMTULimit() throws(Errno) -> MTUChange? {
        let (most, lowered) = state.withLock { ($0.mostMTU, $0.lowered) }
        let now = mtu
        let wanted = lowered.flatMap { $0.to == now ? $0.from : nil } ?? now
        let to = min(wanted, most)
        guard to != now else { return nil }
        try inPlace { name throws(Errno) in try HostInterface.setMTU(name, to) }
        state.withLock { $0.lowered = to < wanted ? MTUChange(from: wanted, to: to) : nil }
        return MTUChange(from: now, to: to)
    }
}
