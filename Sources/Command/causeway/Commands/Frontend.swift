// causeway frontend: one device of a guest, made usable on this host.

import ArgumentParser

struct Frontend: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Runs one frontend, until interrupted.", subcommands: [FrontendVbd.self, FrontendVif.self])
}
