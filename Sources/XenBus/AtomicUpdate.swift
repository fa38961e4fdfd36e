// Transactions whose body may find a malformed node: nothing of such a transaction is committed.

import XenStore

extension StoreClient {
    /// Runs `body` in a transaction with bounded retries; any error aborts it.
    public func atomically<R>(
        _ body: (StoreTransaction) throws(XenbusError) -> R
    ) throws(XenbusError) -> R {
        var found: XenbusError?
        do {
            return try transaction { access throws(StoreError) in
                do {
                    return try body(access)
                } catch .store(let error) {
                    throw error
                } catch {
                    found = error
                    throw StoreError.invalid("aborted", path: "")
                }
            }
        } catch {
            throw found ?? .store(error)
        }
    }
}
