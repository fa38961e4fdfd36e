// causeway network-list: what xl network-list shows.

import ArgumentParser
import CommandSupport
import Toolstack

struct NetworkList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "network-list", abstract: "Lists the network interfaces of guests, of all if none is named.")

    @OptionGroup var host: HostOptions
    @Argument(help: "Domains, by name or number.") var domains: [String] = []

    func run() throws {
        let store = try host.directory().connectStore()
        defer { store.close() }
        printLine(VifListing.heading)
        for domain in try Guests.named(domains, in: store) {
            for listing in try failing("network-list", { try DeviceDirectories(store: store).listInterfaces(of: domain) }) {
                printLine(listing.row)
            }
        }
    }
}
