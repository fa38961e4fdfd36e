// What becomes of a try to reach the store, for those who outlive it.

/// One try.
public enum StoreAttempt: Sendable {
    /// There is a connection.
    case connected(StoreClient)
    /// There is none at this moment; another try may have one.
    case later
    /// There will be none any more, and why.
    case never(String)
}
