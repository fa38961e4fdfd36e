// A simulation's chance: every decision comes from one seed, in the order in which it is asked for.

import LinuxSystem
import Synchronization

/// A seeded generator that everything in one simulation shares.
public final class Chance: Sendable {
    private let generator: Mutex<SeededRandom>

    /// The decisions that belong to `seed`.
    public init(seed: UInt64) { generator = Mutex(SeededRandom(seed: seed)) }

    /// Any number.
    public func next() -> UInt64 { generator.withLock { $0.next() } }

    /// A number below `bound`, which is above 0.
    public func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }

    /// True once in `count` times.
    public func oneIn(_ count: Int) -> Bool { below(count) == 0 }

    /// One of them; there is at least one.
    public func pick<T>(_ choices: [T]) -> T { choices[below(choices.count)] }
}
