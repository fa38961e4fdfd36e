// The toolstack's side of a loopback host: domains made, ended and counted, with their directories in the store.

import Hypervisor
import HypervisorRules
import Loopback
import Toolstack
import XenStore
import XenTypes

/// What one domain holds; without a domain, the host as a whole.
package struct HostUsage {
    package let domain: DomainID?
    package let hypervisor: HypervisorUsage
    package let store: LoopbackStoreUsage
}

package enum HostControl {
    /// Makes a domain; its number.
    static func createDomain(_ id: DomainID?, user: UInt32?, in directory: RunDirectory) throws(Failure) -> DomainID {
        try control(of: directory) { (control) throws(HypervisorError) in try control.createDomain(id, user: user).domain }
    }

    /// Ends a domain: everything it held is released.
    static func destroyDomain(_ domain: DomainID, in directory: RunDirectory) throws(Failure) {
        try control(of: directory) { (control) throws(HypervisorError) in try control.destroyDomain(domain) }
    }

    /// What each domain holds, and the host as a whole under nil.
    package static func usage(of directory: RunDirectory) throws(Failure) -> [HostUsage] {
        try control(of: directory) { (control) throws(HypervisorError) in
            var all = [HostUsage(domain: nil, hypervisor: try control.usage(), store: try control.storeUsage())]
            for domain in try control.domains() {
                do throws(HypervisorError) {
                    all.append(
                        HostUsage(
                            domain: domain, hypervisor: try control.usage(of: domain), store: try control.storeUsage(of: domain)))
                } catch .noSuchDomain {
                    // It was destroyed since the list was made, and holds nothing.
                }
            }
            return all
        }
    }

    private static func control<R>(
        of directory: RunDirectory, _ body: (LoopbackControl) throws(HypervisorError) -> R
    ) throws(Failure) -> R {
        let control: LoopbackControl
        // Names the socket itself.
        do throws(HypervisorError) { control = try LoopbackControl(runDirectory: directory.path, time: .system) } catch {
            throw Failure("\(error)")
        }
        defer { control.disconnect() }
        return try refusing("\(directory)") { () throws(HypervisorError) in try body(control) }
    }
}

/// A guest: a domain of the hypervisor with its directories in the store.
package enum GuestDomain {
    /// What one is to be.
    package struct Wish {
        /// Its name; nil: `guest` and its number.
        var name: String?
        /// Its number; nil: the lowest free one.
        var id: DomainID?
        /// A user that may act as it, beside the host's own.
        var user: UInt32?
        /// What the store says of its memory, in MiB; nil: nothing.
        var memory: Int?

        package init(name: String? = nil, id: DomainID? = nil, user: UInt32? = nil, memory: Int? = nil) {
            self.name = name
            self.id = id
            self.user = user
            self.memory = memory
        }
    }

    /// Makes one; `name` and its number are what it is called.
    package static func create(name: String, in directory: RunDirectory, store: StoreClient) throws(Failure) -> DomainID {
        try create(Wish(), prefix: name, in: directory, store: store)
    }

    /// Makes one as wished; without a name of its own, `prefix` and its number are what it is called.
    package static func create(
        _ wish: Wish, prefix: String = "guest", in directory: RunDirectory, store: StoreClient
    ) throws(Failure) -> DomainID {
        let domain = try HostControl.createDomain(wish.id, user: wish.user, in: directory)
        let uuid = DomainDirectories.randomUUID(from: .system)
        do {
            try DomainDirectories(store: store).create(
                domain, name: wish.name ?? "\(prefix)\(domain)", uuid: uuid, memory: wish.memory)
        } catch {
            try? HostControl.destroyDomain(domain, in: directory)
            throw Failure("\(error)")
        }
        return domain
    }

    /// Ends the domain and clears the store of it; goes on past errors, and throws the first.
    package static func destroy(_ domain: DomainID, in directory: RunDirectory, store: StoreClient) throws(Failure) {
        var first: Failure?
        do {
            let devices = DeviceDirectories(store: store)
            let paths = try devices.list(of: domain).map(\.paths) + devices.listInterfaces(of: domain).map(\.paths)
            for device in paths { try devices.remove(device, force: true, milliseconds: 2000) }
            try DomainDirectories(store: store).remove(domain)
        } catch { first = Failure("\(error)") }
        do { try HostControl.destroyDomain(domain, in: directory) } catch { first = first ?? error }
        if let first { throw first }
    }
}

/// Runs `body`; a hypervisor's refusal is a failure about `subject`.
package func refusing<R>(_ subject: String, _ body: () throws(HypervisorError) -> R) throws(Failure) -> R {
    do { return try body() } catch { throw Failure("\(subject): \(error)") }
}
