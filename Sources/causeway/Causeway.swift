// The command's root: parses, wires the parts together, prints. Nothing else lives here.

import ArgumentParser

@main
struct Causeway: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "causeway", abstract: "Xen-style split drivers in user space.")
}
