// Where the command calls into the rooms below: each call in one place, with its errors made messages.

import BlockBackend
import LoopbackHypervisor
import Toolstack
import XenStore
import XenWire

enum Rooms {
    /// Serves a loopback host until the process is asked to end.
    static func serveHost(in directory: RunDirectory) throws(Failure) {
        throw Failure("host: not in this build")
    }

    /// Serves a domain's disks until the process is asked to end.
    static func serveBackend(in directory: RunDirectory, domain: DomainID, options: BlockBackendOptions) throws(Failure)
    {
        throw Failure("backend: not in this build")
    }

    /// Makes a domain; its number.
    static func createDomain(in directory: RunDirectory) throws(Failure) -> DomainID {
        throw Failure("host: not in this build")
    }

    /// Ends a domain: everything it held is released.
    static func destroyDomain(_ domain: DomainID, in directory: RunDirectory) throws(Failure) {
        throw Failure("host: not in this build")
    }

    /// What each domain holds.
    static func counters(of directory: RunDirectory) throws(Failure) -> [Counter] {
        throw Failure("host: not in this build")
    }
}

/// A guest: a domain of the hypervisor with its directories in the store.
enum GuestDomain {
    static func create(name: String, in directory: RunDirectory, store: StoreClient) throws(Failure) -> DomainID {
        let domain = try Rooms.createDomain(in: directory)
        do { try DomainDirectories(store: store).create(domain, name: "\(name)\(domain)") } catch {
            try? Rooms.destroyDomain(domain, in: directory)
            throw Failure("\(error)")
        }
        return domain
    }

    /// Ends the domain and clears the store of it; goes on past errors, and throws the first.
    static func destroy(_ domain: DomainID, in directory: RunDirectory, store: StoreClient) throws(Failure) {
        var first: Failure?
        do {
            let devices = DeviceDirectories(store: store)
            for listing in try devices.list(of: domain) {
                try devices.remove(listing.paths, force: true, milliseconds: 2000)
            }
            try DomainDirectories(store: store).remove(domain)
        } catch { first = Failure("\(error)") }
        do { try Rooms.destroyDomain(domain, in: directory) } catch { first = first ?? error }
        if let first { throw first }
    }
}
