// causeway block-list: what xl block-list shows.

import ArgumentParser
import CommandSupport
import Toolstack

struct BlockList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "block-list", abstract: "Lists the disks of guests, of all if none is named.")

    @OptionGroup var host: HostOptions
    @Argument(help: "Domains, by name or number.") var domains: [String] = []

    func run() throws {
        let store = try host.directory().connectStore()
        defer { store.close() }
        printLine(BlockListing.heading)
        for domain in try Guests.named(domains, in: store) {
            for listing in try failing("block-list", { try DeviceDirectories(store: store).list(of: domain) }) {
                printLine(listing.row)
            }
        }
    }
}
