// causeway list: the domains of a host.

import ArgumentParser
import CommandSupport
import Toolstack

struct List: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Lists the domains of a host.")

    @OptionGroup var host: HostOptions
    @OptionGroup var format: ListFormat

    func run() throws {
        let store = try host.directory().connectStore()
        defer { store.close() }
        let rows = try failing("list") {
            try DomainDirectories(store: store).list().map { domain, name in
                let disks = try DeviceDirectories(store: store).list(of: domain)
                return [printable(name), "\(domain)", disks.map { printable($0.vdev) }.joined(separator: ",")]
            }
        }
        format.show(["Name", "ID", "Disks"], rows)
    }
}
