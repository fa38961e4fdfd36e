// The faults that are set on one side of one device: when each strikes is decided here, for all of the device's queues.
// A lock for each occasion: who sets faults does not measure.

import LinuxSystem
import Synchronization

/// A fault has struck.
public struct FaultStrike: Sendable, Equatable {
    /// What goes wrong.
    public let kind: DeviceFault
    /// For how long.
    public let milliseconds: UInt64
    /// 64 bits of the fault's own chance, for what is to be chosen.
    public let random: UInt64
}

/// A fault that is set, as it is at this moment.
public struct FaultRecord: Sendable, Equatable {
    /// What was wanted; it has a name.
    public let plan: FaultPlan
    /// How often it struck.
    public let struck: UInt64
    /// How often it may strike still; nil: without an end.
    public let left: UInt64?

    /// Name, kind, side, what for, struck, left, seed: words for a table's row.
    public var words: [String] {
        [
            plan.name, plan.kind.rawValue, plan.side.rawValue, plan.summary.isEmpty ? "-" : plan.summary, "\(struck)",
            left.map { "\($0)" } ?? "-", "\(plan.seed)",
        ]
    }

    /// What the words are.
    public static let titles = ["Name", "Kind", "Side", "How", "Struck", "Left", "Seed"]
}

/// One side of one device, and what goes wrong there. From any thread.
public final class FaultBook: Sendable {
    /// The device's class.
    public let subject: FaultSubject
    /// Which side it is.
    public let side: FaultSide
    private let entries = Mutex<[Entry]>([])
    private let watchers = Mutex<[ObjectIdentifier: @Sendable () -> Void]>([:])
    private static let most = 32

    private struct Entry {
        let plan: FaultPlan
        var chance: SeededRandom
        var struck: UInt64 = 0
        var left: UInt64?

        /// One occasion; nil: nothing happens.
        mutating func occasion() -> FaultStrike? {
            if left == 0 { return nil }
            let draw = chance.next()
            guard draw % plan.every == 0 else { return nil }
            struck += 1
            left = left.map { $0 - 1 }
            return FaultStrike(
                kind: plan.kind, milliseconds: plan.milliseconds ?? plan.kind.usualMilliseconds ?? 0, random: chance.next())
        }
    }

    /// With nothing set.
    public init(_ subject: FaultSubject, _ side: FaultSide) {
        self.subject = subject
        self.side = side
    }

    /// Has `look` called whenever a fault is set or undone, on the thread of whoever does that; who watches already
    /// looks for itself once. Until `unwatch`.
    public func watch(_ who: AnyObject, _ look: @escaping @Sendable () -> Void) {
        watchers.withLock { $0[ObjectIdentifier(who)] = look }
    }

    /// Calls it no more, but for a call that is under way.
    public func unwatch(_ who: AnyObject) { watchers.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(who)) } }

    /// Not under the lock: who looks may wait for a thread on which something strikes.
    private func tell() { for look in watchers.withLock({ Array($0.values) }) { look() } }

    /// Whether nothing is set.
    public var isEmpty: Bool { entries.withLock { $0.isEmpty } }

    /// Sets a fault, and has those who watch look; its name.
    public func set(_ given: FaultPlan) throws(FaultError) -> String {
        var plan = given
        plan.side = side
        try plan.validate(for: subject)
        let wanted = plan
        let name = try entries.withLock { entries throws(FaultError) in
            guard entries.count < Self.most else { throw .tooMany(Self.most) }
            var plan = wanted
            if plan.name.isEmpty {
                plan.name = plan.kind.rawValue
                var number = 2
                while entries.contains(where: { $0.plan.name == plan.name }) {
                    plan.name = "\(plan.kind)-\(number)"
                    number += 1
                }
            }
            guard !entries.contains(where: { $0.plan.name == plan.name }) else { throw .nameTaken(plan.name) }
            let left = plan.count ?? (plan.kind.isOnce(subject) ? 1 : nil)
            entries.append(Entry(plan: plan, chance: SeededRandom(seed: plan.seed), left: left))
            return plan.name
        }
        tell()
        return name
    }

    /// Undoes the fault of this name, or each there is (`all`), and has those who watch look. What was set, as it was
    /// last.
    public func clear(_ name: String) throws(FaultError) -> [FaultRecord] {
        let records = try entries.withLock { entries throws(FaultError) in
            let gone = entries.filter { name == "all" || $0.plan.name == name }
            guard name == "all" || !gone.isEmpty else { throw .noSuchName(name, set: entries.map(\.plan.name)) }
            entries.removeAll { name == "all" || $0.plan.name == name }
            return gone.map { FaultRecord(plan: $0.plan, struck: $0.struck, left: $0.left) }
        }
        tell()
        return records
    }

    /// What is set, in the order in which it was.
    public var records: [FaultRecord] {
        entries.withLock { $0.map { FaultRecord(plan: $0.plan, struck: $0.struck, left: $0.left) } }
    }

    /// Whether a fault of this kind is set, spent or not.
    public func has(_ kind: DeviceFault) -> Bool { entries.withLock { $0.contains { $0.plan.kind == kind } } }

    /// An occasion for faults of these kinds; those that strike, in the order in which they were set.
    /// - Parameter toward: whom the ring or the frame is for, where that is asked.
    public func strikes(_ kinds: Set<DeviceFault>, toward: FaultSide? = nil) -> [FaultStrike] {
        strikes { kinds.contains($0.kind) && ($0.toward == nil || toward == nil || $0.toward == toward) }
    }

    /// An occasion for one kind: the first that strikes.
    public func strike(_ kind: DeviceFault, toward: FaultSide? = nil) -> FaultStrike? {
        entries.withLock { entries in
            for index in entries.indices {
                let plan = entries[index].plan
                guard plan.kind == kind, plan.toward == nil || toward == nil || plan.toward == toward else { continue }
                if let strike = entries[index].occasion() { return strike }
            }
            return nil
        }
    }

    /// A request is an occasion for those of these kinds that are meant for it.
    /// - Parameter sectors: those that it touches; nil: it has none.
    public func strikes(
        _ kinds: Set<DeviceFault>, on operation: FaultOperation, sectors: Range<UInt64>?
    ) -> [FaultStrike] {
        strikes { kinds.contains($0.kind) && $0.isMeant(for: operation, sectors) }
    }

    private func strikes(where isMeant: (FaultPlan) -> Bool) -> [FaultStrike] {
        entries.withLock { entries in
            var strikes: [FaultStrike] = []
            for index in entries.indices where isMeant(entries[index].plan) {
                if let strike = entries[index].occasion() { strikes.append(strike) }
            }
            return strikes
        }
    }
}
