// causeway network-detach: takes an interface away, as xl does.

import ArgumentParser
import CommandSupport
import Toolstack

struct NetworkDetach: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "network-detach", abstract: "Takes a network interface away from a guest.",
        usage: "causeway network-detach [--force] [DOMAIN] NUMBER|MAC")

    @OptionGroup var host: HostOptions
    @OptionGroup var options: DetachOptions
    @Argument(help: "A domain, if there are several, then the interface's number or address.") var words: [String]

    func run() throws {
        guard words.count <= 2, let name = words.last else { throw Failure.usage("network-detach: [DOMAIN] NUMBER|MAC") }
        try options.detach(words, on: host, called: "network-detach", as: "vif \(name)") {
            try $0.findInterface(name, of: $1).paths
        }
    }
}
