// causeway network-list: what xl network-list shows.

import ArgumentParser
import CommandSupport
import Toolstack

struct NetworkList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "network-list", abstract: "Lists the network interfaces of guests, of all if none is named.")

    @OptionGroup var host: HostOptions
    @OptionGroup var format: ListFormat
    @Argument(help: "Domains, by name or number.") var domains: [String] = []

    func run() throws {
        let store = try host.directory().connectStore()
        defer { store.close() }
        var vifs: [(domain: String, listing: VifListing)] = []
        for domain in try Guests.named(domains, in: store) {
            let found = try failing("network-list") { try DeviceDirectories(store: store).listInterfaces(of: domain) }
            vifs += found.map { ("\(domain)", $0) }
        }
        let headings = [
            "domain", "device", "mac", "name", "bridge", "backend", "state", "event channel", "tx ring", "rx ring", "path",
        ]
        let rows = vifs.map { domain, vif in
            [
                domain, "\(vif.paths.device)", vif.mac, vif.name, vif.bridge, "\(vif.paths.backend)", "\(vif.state)",
                "\(vif.eventChannel)", "\(vif.transmitRing)", "\(vif.receiveRing)", vif.paths.backendPath,
            ]
        }
        format.show(headings, rows) { [VifListing.heading] + vifs.map(\.listing.row) }
    }
}
