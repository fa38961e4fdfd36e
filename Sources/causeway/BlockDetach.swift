// causeway block-detach: takes a disk away, as xl does.

import ArgumentParser
import Toolstack

struct BlockDetach: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "block-detach", abstract: "Takes a disk away from a guest.",
        usage: "causeway block-detach [--force] [DOMAIN] VDEV")

    @OptionGroup var host: HostOptions
    @Flag(name: .shortAndLong, help: "Removes the guest's side at once, without asking.") var force = false
    @Option(help: "How long the backend may take to close, in seconds.") var timeout = 10
    @Argument(help: "A domain, if there are several, then the disk: xvda, 51712.") var words: [String]

    func run() throws {
        guard words.count <= 2, let name = words.last, let vdev = VirtualDevice(name) else {
            throw Failure.usage("block-detach: [DOMAIN] VDEV; VDEV is a name such as xvda or a number")
        }
        let store = try host.directory().connectStore()
        defer { store.close() }
        let guest = try words.count == 2 ? Guests.find(words[0], in: store) : Guests.only(in: store)
        let devices = DeviceDirectories(store: store)
        try failing("block-detach: \(name)") {
            let found = try devices.find(vdev, of: guest)
            try devices.remove(found.paths, force: force, milliseconds: timeout * 1000)
        }
        printLine("\(name): detached from domain \(guest)")
    }
}
