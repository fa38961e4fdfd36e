// xl's habit of naming a domain first, by name or number; with one guest on the host it need not be named.

import Toolstack
import XenStore
import XenWire

enum Guests {
    /// The domain that `name` names.
    static func find(_ name: String, in store: StoreClient) throws(Failure) -> DomainID {
        do { return try DomainDirectories(store: store).find(name) } catch { throw Failure("\(error)") }
    }

    /// The only guest; an error if there is none or if there are several.
    static func only(in store: StoreClient) throws(Failure) -> DomainID {
        let guests = try all(in: store)
        guard let guest = guests.first else { throw Failure("no domain on this host has a disk") }
        guard guests.count == 1 else {
            throw .usage(
                "several domains on this host: name one of \(guests.map(\.description).joined(separator: ", "))")
        }
        return guest
    }

    /// Every domain but domain 0.
    static func all(in store: StoreClient) throws(Failure) -> [DomainID] {
        do { return try DomainDirectories(store: store).list().map(\.domain).filter { $0 != .zero } } catch {
            throw Failure("\(error)")
        }
    }
}
