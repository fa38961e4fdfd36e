// xl's habit of naming a domain first, by name or number; with one guest on the host it need not be named.

import CommandSupport
import Toolstack
import XenStore
import XenTypes

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

    /// The guest that is to have a new device: the one that is named, or the only one, or, on a host without any, a new
    /// one.
    static func forAttaching(
        _ what: String, named name: String?, in directory: RunDirectory, _ store: StoreClient
    ) throws(Failure) -> AttachingGuest {
        if let name { return AttachingGuest(domain: try find(name, in: store)) }
        guard try all(in: store).isEmpty else { return AttachingGuest(domain: try only(in: store)) }
        return AttachingGuest(domain: try GuestDomain.create(name: "guest", in: directory, store: store), madeFor: what)
    }

    /// Every domain but domain 0.
    static func all(in store: StoreClient) throws(Failure) -> [DomainID] {
        do { return try DomainDirectories(store: store).list().map(\.domain).filter { $0 != .zero } } catch {
            throw Failure("\(error)")
        }
    }
}

/// A guest that is to have a new device.
struct AttachingGuest {
    let domain: DomainID
    /// What it was made for just now; nil: it was there.
    var madeFor: String?

    /// Does `body`; where it fails, a guest that was made for it is gone again.
    func undoingIfFails<R>(
        in directory: RunDirectory, _ store: StoreClient, say: (String) -> Void, _ body: () throws -> R
    ) throws -> R {
        do {
            let result = try body()
            if let madeFor { say("domain \(domain): made for the \(madeFor)") }
            return result
        } catch {
            if madeFor != nil { try? GuestDomain.destroy(domain, in: directory, store: store) }
            throw error
        }
    }
}
