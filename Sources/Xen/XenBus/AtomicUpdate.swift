// Transactions whose body may find a malformed node: nothing of such a transaction is committed.

import XenStore

extension StoreClient {
    /// Runs `body` in a transaction with bounded retries; any error aborts it.
    public func atomically<R>(
        _ body: (StoreTransaction) throws(XenbusError) -> R
    ) throws(XenbusError) -> R {
        var found: XenbusError?
        do throws(StoreError) {
            return try transaction { access throws(StoreError) in
                do throws(XenbusError) {
                    return try body(access)
                } catch {
                    // A conflict has to reach `transaction`, which tries again; anything else only has to abort.
                    if case .store(let storeError) = error { throw storeError }
                    found = error
                    throw StoreError.invalid("aborted", path: "")
                }
            }
        } catch {
            throw found ?? .store(error)
        }
    }
}
