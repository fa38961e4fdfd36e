// What disks a domain has, told from the toolstack's own record; what a guest wrote is shown, never followed
// (attacks.md TS2, TS3).

import XenStore
import XenTypes

/// One row of `block-list`.
public struct BlockListing: Hashable, Sendable {
    /// Where it lies in the store.
    public var paths: DevicePaths
    /// The name that the disk was attached under, `xvda`.
    public var vdev: String
    /// What it is backed by.
    public var target: String
    /// `-1` where the frontend's node is missing or no number, as in xl; likewise the two below.
    public var state: Int
    /// The first queue's event channel.
    public var eventChannel: Int
    /// The first ring page's grant.
    public var ringReference: Int

    /// xl's heading.
    public static let heading = row(["Vdev", "BE", "handle", "state", "evt-ch", "ring-ref", "BE-path"])

    /// xl's columns.
    public var row: String {
        Self.row([
            "\(paths.device)", "\(paths.backend)", "\(paths.frontend)", "\(state)", "\(eventChannel)",
            "\(ringReference)",
            paths.backendPath,
        ])
    }

    private static func row(_ cells: [String]) -> String {
        let widths = [5, 3, 6, 5, 6, 8, 30]
        return zip(cells, widths).map { cell, width in
            cell + String(repeating: " ", count: max(0, width - cell.count))
        }.joined(separator: " ")
    }
}

extension DeviceDirectories {
    /// A domain's disks, by number.
    public func list(of domain: DomainID) throws(ToolstackError) -> [BlockListing] {
        try storing("listing domain \(domain)'s disks") { () throws(StoreError) in
            try Self.list(of: domain, in: store)
        }
    }

    /// The device under this name or number.
    public func find(_ vdev: VirtualDevice, of domain: DomainID) throws(ToolstackError) -> BlockListing {
        guard let found = try list(of: domain).first(where: { $0.paths.device == vdev.number }) else {
            throw .noSuchDevice(vdev.name, domain: domain)
        }
        return found
    }

    static func list(of domain: DomainID, in store: some StoreAccess) throws(StoreError) -> [BlockListing] {
        let names: [String]
        do { names = try store.directory(DevicePaths.records(domain)) } catch .refused(let name, _)
            where name == "ENOENT"
        {
            return []
        }
        var found: [BlockListing] = []
        for device in names.compactMap({ UInt32($0) }).sorted() {
            let record = "\(DevicePaths.records(domain))/\(device)"
            guard let backend = try store.value(record + "/backend"),
                let paths = DevicePaths(backendPath: backend, frontend: domain, device: device)
            else { continue }
            let queue = try store.value(paths.frontendPath + "/multi-queue-num-queues") == nil ? "" : "/queue-0"
            let ring = paths.frontendPath + queue
            var listing = BlockListing(
                paths: paths, vdev: try store.value(record + "/dev") ?? "\(device)",
                target: try store.value(record + "/params") ?? "",
                state: try number(paths.frontendPath + "/state", in: store),
                eventChannel: try number(ring + "/event-channel", in: store),
                ringReference: try number(ring + "/ring-ref", in: store))
            if listing.ringReference < 0 { listing.ringReference = try number(ring + "/ring-ref0", in: store) }
            found.append(listing)
        }
        return found
    }

    /// A guest's number: -1 unless it is a plain one that fits.
    private static func number(_ path: String, in store: some StoreAccess) throws(StoreError) -> Int {
        guard let text = try store.value(path), let number = UInt32(text) else { return -1 }
        return Int(number)
    }
}
