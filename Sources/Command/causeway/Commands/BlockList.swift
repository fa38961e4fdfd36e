// causeway block-list: what xl block-list shows.

import ArgumentParser
import CommandSupport
import Toolstack

struct BlockList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "block-list", abstract: "Lists the disks of guests, of all if none is named.")

    @OptionGroup var host: HostOptions
    @OptionGroup var format: ListFormat
    @Argument(help: "Domains, by name or number.") var domains: [String] = []

    func run() throws {
        let store = try host.directory().connectStore()
        defer { store.close() }
        var disks: [(domain: String, listing: BlockListing)] = []
        for domain in try Guests.named(domains, in: store) {
            let found = try failing("block-list") { try DeviceDirectories(store: store).list(of: domain) }
            disks += found.map { ("\(domain)", $0) }
        }
        let headings = [
            "domain", "vdev", "name", "target", "backend", "handle", "state", "event channel", "ring reference", "path",
        ]
        let rows = disks.map { domain, disk in
            [
                domain, "\(disk.paths.device)", disk.vdev, disk.target, "\(disk.paths.backend)", "\(disk.paths.frontend)",
                "\(disk.state)", "\(disk.eventChannel)", "\(disk.ringReference)", disk.paths.backendPath,
            ]
        }
        format.show(headings, rows) { [BlockListing.heading] + disks.map(\.listing.row) }
    }
}
