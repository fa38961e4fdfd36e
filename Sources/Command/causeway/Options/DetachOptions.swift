// What block-detach and network-detach share.

import ArgumentParser
import CommandSupport
import Toolstack
import XenTypes

/// How a device is taken away.
struct DetachOptions: ParsableArguments {
    @Flag(name: .shortAndLong, help: "Removes the guest's side at once, without asking.") var force = false
    @OptionGroup var loudness: QuietOption
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
        let device = try failing(command) { try finding(devices, guest) }
        try failing("\(command): \(words.last ?? "")") {
            try devices.remove(device, force: force, milliseconds: timeout * 1000)
        }
        loudness.say("\(title): detached from domain \(guest)")
    }
}
