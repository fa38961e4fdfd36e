// A simulation's chance: every decision comes from one seed, in the order in which it is asked for.

import Synchronization

/// A seeded generator (SplitMix64) that everything in one simulation shares.
public final class Chance: Sendable {
    private let state: Mutex<UInt64>

    /// The decisions that belong to `seed`.
    public init(seed: UInt64) { state = Mutex(seed) }

    /// Any number.
    public func next() -> UInt64 {
        state.withLock { state in
            state &+= 0x9E37_79B9_7F4A_7C15
            var mixed = state
            mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
            return mixed ^ mixed >> 31
        }
    }

    /// A number below `bound`, which is above 0.
    public func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }

    /// True once in `count` times.
    public func oneIn(_ count: Int) -> Bool { below(count) == 0 }

    /// One of them; there is at least one.
    public func pick<T>(_ choices: [T]) -> T { choices[below(choices.count)] }
}
