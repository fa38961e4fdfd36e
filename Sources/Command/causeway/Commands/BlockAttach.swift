// causeway block-attach: puts a disk before a guest, as xl does.

import ArgumentParser
import CommandSupport
import Toolstack

struct BlockAttach: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "block-attach", abstract: "Attaches a disk to a guest.",
        usage: "causeway block-attach [DOMAIN] SPEC…",
        discussion: """
            SPEC is xl's: disk.img,raw,xvda,w. Several are taken as one, as in xl. On a host without a guest, one is made.
            Then: causeway frontend vbd VDEV --nbd SOCKET --domain DOMAIN
            """)

    @OptionGroup var host: HostOptions
    @OptionGroup var loudness: QuietOption
    @Argument(help: "A domain, if there are several, then the disk.") var words: [String]
    @Option(help: "How long the backend may take, in seconds.") var timeout = 10

    func run() throws {
        let text = words.count > 1 && !words[0].contains(",") ? words.dropFirst() : words[...]
        let disk = try parseDisk(text.joined(separator: ","), anyBackend: true) { loudness.note($0) }
        guard disk.front == nil else {
            throw Failure.usage("block-attach: front: for `pair`; a backend with --vhost-user serves every disk so")
        }
        let directory = try host.directory()
        let store = try directory.connectStore()
        defer { store.close() }
        let guest = try Guests.forAttaching("disk", named: text.count < words.count ? words[0] : nil, in: directory, store)
        let devices = DeviceDirectories(store: store)
        try guest.undoingIfFails(in: directory, store, say: loudness.say) {
            try failing("block-attach") {
                let backend = try disk.backend.map { try Guests.find($0, in: store) } ?? .zero
                let paths = try devices.create(
                    .init(disk, frontend: guest.domain, backend: backend, physicalDevice: disk.physicalDevice))
                try devices.waitServedOrRemove(paths, milliseconds: timeout * 1000)
            }
        }
        loudness.say("\(disk.vdev): attached to domain \(guest.domain)")
    }
}
