// causeway domain-create: a guest on a loopback host, with its directories in the store and its own way to it.

import ArgumentParser
import CommandSupport
import Toolstack
import XenTypes

struct DomainCreate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "domain-create", abstract: "Makes a domain, for programs or drivers to act in.",
        discussion: """
            Prints its number. NAME is guest and the number unless it is given. It stays until domain-destroy, or the host's end.
            Its programs: causeway xen-run --domain NUMBER -- COMMAND
            """)

    @OptionGroup var host: HostOptions
    @Argument(help: "What it is called.") var name: String?
    @Option(help: "Its number; else the lowest that is free.") var id: UInt16?
    @Option(help: "A user that may act as this domain beside the host's own: a name or a number.") var user: String?
    @Option(help: ArgumentHelp("What its toolstack is to say of its memory, in MiB.", valueName: "MiB")) var memory: Int?

    func validate() throws {
        if let name, name.isEmpty || name.utf8.count > 64 || name.utf8.contains(where: { $0 <= 0x20 || $0 >= 0x7F || $0 == 0x2F }) {
            throw ValidationError("a name is 1 to 64 printing characters without spaces and slashes")
        }
        if let name, UInt16(name) != nil { throw ValidationError("`\(name)`: a number is no name") }
        if let memory, !(1...1 << 20).contains(memory) { throw ValidationError("--memory: 1 to 1048576, not \(memory)") }
    }

    func run() throws {
        let directory = try host.directory()
        let store = try directory.connectStore()
        defer { store.close() }
        if let name, (try? Guests.find(name, in: store)) != nil { throw Failure("domain-create: there is a domain `\(name)`") }
        let user = try user.map { try Accounts.user($0) }
        let domain = try GuestDomain.create(
            .init(name: name, id: id.map { DomainID($0) }, user: user, memory: memory), in: directory, store: store)
        printLine("\(domain)")
    }
}

/// Ends a domain and all that is its.
struct DomainDestroy: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "domain-destroy", abstract: "Ends a domain: its devices, its programs' connections, its place in the store.")

    @OptionGroup var host: HostOptions
    @Argument(help: "The domain: its name or number.") var domain: String

    func run() throws {
        let directory = try host.directory()
        let store = try directory.connectStore()
        defer { store.close() }
        let found = try Guests.find(domain, in: store)
        guard found != .zero else { throw Failure.usage("domain-destroy: domain 0 ends with its host") }
        try GuestDomain.destroy(found, in: directory, store: store)
    }
}
