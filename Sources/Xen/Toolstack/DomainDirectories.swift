// A domain's own directories: what must be in the store before a driver of that domain starts.

import LinuxSystem
import XenStore
import XenTypes

/// Creates and removes `/local/domain/N`, `/vm/UUID` and `/libxl/N`, with the permissions that libxl gives them.
public struct DomainDirectories: Sendable {
    /// The connection that is used; privileged.
    public let store: StoreClient

    /// Works through `store`.
    public init(store: StoreClient) { self.store = store }

    /// Directories that the domain itself may write to.
    private static let ownDirectories = ["control/shutdown", "data", "drivers", "feature", "attr", "error", "backend"]

    /// Creates the directories of a domain that the hypervisor already knows.
    /// - Parameters:
    ///   - uuid: no other domain's; see `randomUUID`.
    ///   - memory: its memory in MiB, as libxl writes it for a guest's balloon driver; nil: nothing is said.
    public func create(_ domain: DomainID, name: String, uuid: String, memory: Int? = nil) throws(ToolstackError) {
        try storing("creating domain \(domain)'s directories") { () throws(StoreError) in
            try store.transaction { (transaction) throws(StoreError) in
                try Self.write(domain, name: name, uuid: uuid, in: transaction)
                guard let memory else { return }
                let home = "\(DevicePaths.domain(domain))/memory"
                try Self.make(home, [StorePermission(.none, .zero), StorePermission(.read, domain)], in: transaction)
                for key in ["target", "static-max"] { try transaction.write("\(home)/\(key)", "\(memory * 1024)") }
            }
        }
    }

    /// Writes what Xen's `xen-init-dom0` writes for domain 0, which nobody creates.
    public func createControlDomain() throws(ToolstackError) {
        try storing("creating domain 0's directory") { () throws(StoreError) in
            for (key, value) in [("name", "Domain-0"), ("domid", "0")] {
                try store.write("\(DevicePaths.domain(.zero))/\(key)", value)
            }
        }
    }

    /// Removes all that `create` made, and what the domain put there.
    public func remove(_ domain: DomainID) throws(ToolstackError) {
        try storing("removing domain \(domain)'s directories") { () throws(StoreError) in
            try store.transaction { (transaction) throws(StoreError) in
                let home = DevicePaths.domain(domain)
                // The path is read back from a node that the guest can only read, so it names the domain's own record.
                if let vm = try transaction.value(home + "/vm"), vm.hasPrefix("/vm/") {
                    try DeviceDirectories.removeIfPresent(vm, in: transaction)
                }
                for path in [home, "/libxl/\(domain)"] {
                    try DeviceDirectories.removeIfPresent(path, in: transaction)
                }
            }
        }
    }

    /// The domains in the store with their names, by number.
    public func list() throws(ToolstackError) -> [(domain: DomainID, name: String)] {
        try storing("listing domains") { () throws(StoreError) in
            var found: [(domain: DomainID, name: String)] = []
            for number in try store.directory("/local/domain").compactMap({ UInt16($0) }).sorted() {
                found.append((DomainID(number), try store.value("/local/domain/\(number)/name") ?? ""))
            }
            return found
        }
    }

    /// The domain with this number or name.
    public func find(_ name: String) throws(ToolstackError) -> DomainID {
        for (domain, known) in try list() where known == name || "\(domain)" == name { return domain }
        throw .noSuchDomain(name)
    }

    static func write(_ domain: DomainID, name: String, uuid: String, in store: some StoreAccess) throws(StoreError) {
        let home = DevicePaths.domain(domain)
        let readable = [StorePermission(.none, .zero), StorePermission(.read, domain)]
        let own = [StorePermission(.none, domain)]
        for path in [home, "/vm/\(uuid)"] {
            try DeviceDirectories.removeIfPresent(path, in: store)
            try make(path, readable, in: store)
        }
        try DeviceDirectories.removeIfPresent("/libxl/\(domain)", in: store)
        for path in ["/libxl/\(domain)", "/libxl/\(domain)/device"] {
            try make(path, [StorePermission(.none, .zero)], in: store)
        }
        for (key, value) in [("vm", "/vm/\(uuid)"), ("name", name), ("domid", "\(domain)")] {
            try store.write("\(home)/\(key)", value)
        }
        for path in ["device", "control"] { try make("\(home)/\(path)", readable, in: store) }
        for path in ownDirectories { try make("\(home)/\(path)", own, in: store) }
        try store.write("/vm/\(uuid)/uuid", uuid)
        try store.write("/vm/\(uuid)/name", name)
        try store.write("/libxl/\(domain)/type", "pvh")
    }

    private static func make(_ path: String, _ permissions: [StorePermission], in store: some StoreAccess)
        throws(StoreError)
    {
        try store.makeDirectory(path)
        try store.setPermissions(path, permissions)
    }

    /// A version 4 UUID.
    public static func randomUUID(from random: some RandomSource) -> String {
        let halves = [random.next(), random.next()]
        var bytes = (0..<16).map { UInt8(truncatingIfNeeded: halves[$0 / 8] >> UInt64($0 % 8 * 8)) }
        bytes[6] = bytes[6] & 0x0F | 0x40
        bytes[8] = bytes[8] & 0x3F | 0x80
        let hex = bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }
        return [0..<4, 4..<6, 6..<8, 8..<10, 10..<16].map { hex[$0].joined() }.joined(separator: "-")
    }
}
