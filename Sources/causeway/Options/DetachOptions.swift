// What block-detach and network-detach share.

import ArgumentParser
import Toolstack
import XenBus
import XenWire

/// How a device is taken away.
struct DetachOptions: ParsableArguments {
    @Flag(name: .shortAndLong, help: "Removes the guest's side at once, without asking.") var force = false
    @Option(help: "How long the backend may take to close, in seconds.") var timeout = 10

    /// Finds a device, by `words`, which are a domain's name, if there are several, and a device's, and takes it away.
    func detach(
        _ words: [String], on host: HostOptions, called command: String, as title: String,
        finding: (DeviceDirectories, DomainID) throws -> DevicePaths
    ) throws {
        let store = try host.directory().connectStore()
        defer { store.close() }
        let guest = try words.count == 2 ? Guests.find(words[0], in: store) : Guests.only(in: store)
        let devices = DeviceDirectories(store: store)
        try failing("\(command): \(words.last ?? "")") {
            try devices.remove(try finding(devices, guest), force: force, milliseconds: timeout * 1000)
        }
        printLine("\(title): detached from domain \(guest)")
    }
}
