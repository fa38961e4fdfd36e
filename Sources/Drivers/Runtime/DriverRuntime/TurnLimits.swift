// How much a network queue moves before it tells its peer and looks around.

/// What one turn of one direction moves at most, on either side of the rings.
public enum TurnLimits {
    /// Frames, so that one busy queue leaves room for the others on its thread.
    public static let frames = 64
    /// Bytes: no further frame once so many were moved. Four large frames; a ring has room for some fifteen. A turn
    /// that moved all of them would leave the peer waiting until they are through, and then wait itself until the peer
    /// is through with them; in parts, both work at once.
    public static let bytes: UInt64 = 256 << 10
}
