// causeway block-detach: takes a disk away, as xl does.

import ArgumentParser
import CommandSupport
import Toolstack

struct BlockDetach: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "block-detach", abstract: "Takes a disk away from a guest.",
        usage: "causeway block-detach [--force] [DOMAIN] VDEV")

    @OptionGroup var host: HostOptions
    @OptionGroup var options: DetachOptions
    @Argument(help: "A domain, if there are several, then the disk: xvda, 51712.") var words: [String]

    func run() throws {
        guard words.count <= 2, let name = words.last, let vdev = VirtualDevice(name) else {
            throw Failure.usage("block-detach: [DOMAIN] VDEV; VDEV is a name such as xvda or a number")
        }
        try options.detach(words, on: host, called: "block-detach", as: name) { try $0.find(vdev, of: $1).paths }
    }
}
