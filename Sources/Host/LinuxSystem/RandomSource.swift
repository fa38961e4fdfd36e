// Where chance comes from: see TimeSource.swift, whose rules hold here, too.

/// Random numbers that nobody can foretell, unless a test wants to.
public protocol RandomSource: Sendable {
    /// 64 random bits.
    func next() -> UInt64
}

/// The system's random numbers (`getrandom(2)`).
public struct SystemRandom: RandomSource {
    /// The system's random numbers.
    public init() {}

    /// See `RandomSource.next`.
    public func next() -> UInt64 {
        var generator = SystemRandomNumberGenerator()
        return generator.next()
    }
}

extension RandomSource where Self == SystemRandom {
    /// The system's random numbers.
    public static var system: SystemRandom { SystemRandom() }
}
