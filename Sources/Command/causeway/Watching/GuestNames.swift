// What guests are called.

import CommandSupport
import XenStore

/// Names as the store has them, each asked for once.
struct GuestNames {
    /// By domain, as a number in words; one that has none is not in it.
    private(set) var byDomain: [String: String] = [:]
    private var asked: Set<String> = []

    /// Asks for those that are new. On Xen the store is another one, and numbers must do.
    mutating func learn(_ domains: Set<String>, in directory: RunDirectory) {
        let new = domains.subtracting(asked)
        guard !new.isEmpty, let store = try? directory.connectStore() else { return }
        defer { store.close() }
        for domain in new { byDomain[domain] = try? store.read("/local/domain/\(domain)/name") }
        asked.formUnion(new)
    }
}
