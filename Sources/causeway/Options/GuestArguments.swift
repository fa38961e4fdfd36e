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
        guard let guest = guests.first else { throw Failure("no domain on this host has a device") }
        guard guests.count == 1 else {
            throw .usage(
                "several domains on this host: name one of \(guests.map(\.description).joined(separator: ", "))")
        }
        return guest
    }

    /// Those that are named; all if none is.
    static func named(_ names: [String], in store: StoreClient) throws(Failure) -> [DomainID] {
        if names.isEmpty { return try all(in: store) }
        var guests: [DomainID] = []
        for name in names { guests.append(try find(name, in: store)) }
        return guests
    }

    /// The guest that is to have a new device: the one that is named, or the only one, or, on a host without any, a new one.
    static func forAttaching(
        _ what: String, named name: String?, in directory: RunDirectory, _ store: StoreClient
    ) throws(Failure) -> DomainID {
        if let name { return try find(name, in: store) }
        guard try all(in: store).isEmpty else { return try only(in: store) }
        let guest = try GuestDomain.create(name: "guest", in: directory, store: store)
        printLine("domain \(guest): made for the \(what)")
        return guest
    }

    /// Every domain but domain 0.
    static func all(in store: StoreClient) throws(Failure) -> [DomainID] {
        do { return try DomainDirectories(store: store).list().map(\.domain).filter { $0 != .zero } } catch {
            throw Failure("\(error)")
        }
    }
}
