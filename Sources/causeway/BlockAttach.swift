// causeway block-attach: puts a disk before a guest, as xl does.

import ArgumentParser
import Toolstack
import XenWire

struct BlockAttach: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "block-attach", abstract: "Attaches a disk to a guest.",
        usage: "causeway block-attach [DOMAIN] SPEC…",
        discussion: """
            SPEC is xl's: disk.img,raw,xvda,w. Several are taken as one, as in xl. On a host without a guest, one is made.
            Then: causeway frontend vbd VDEV --nbd SOCKET --domain DOMAIN
            """)

    @OptionGroup var host: HostOptions
    @Argument(help: "A domain, if there are several, then the disk.") var words: [String]
    @Option(help: "How long the backend may take, in seconds.") var timeout = 10

    func run() throws {
        let text = words.count > 1 && !words[0].contains(",") ? words.dropFirst() : words[...]
        let disk = try parseDisk(text.joined(separator: ","))
        let directory = try host.directory()
        let store = try directory.connectStore()
        defer { store.close() }
        let guest = try Guests.forAttaching("disk", named: text.count < words.count ? words[0] : nil, in: directory, store)
        let devices = DeviceDirectories(store: store)
        try failing("block-attach") {
            let backend = try disk.backend.map { try Guests.find($0, in: store) } ?? .zero
            let paths = try devices.create(
                .init(disk, frontend: guest, backend: backend, physicalDevice: BlockTarget.physicalDevice(of: disk)))
            try devices.waitServed(paths, milliseconds: timeout * 1000)
        }
        printLine("\(disk.vdev): attached to domain \(guest)")
    }
}

/// Parses a disk and refuses what no backend here can serve.
func parseDisk(_ text: String) throws(Failure) -> DiskSpecification {
    var disk: DiskSpecification
    do { disk = try DiskSpecification(parsing: text) } catch { throw .usage("\(error)") }
    try BlockTarget.check(&disk)
    return disk
}
