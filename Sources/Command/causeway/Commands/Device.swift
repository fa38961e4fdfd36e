// causeway device: a running device's attributes and commands.

import ArgumentParser
import CommandSupport
import DeviceControl
import Glibc
import LinuxSystem
import Toolstack

struct Device: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Looks at running devices and tells them what to do: those of a backend and those of an export.",
        discussion: """
            A device has attributes, which describe it, and takes commands. Identity, geometry and counters can be read at any time; what was
            agreed with the driver, its queues and its memory only while it is paused, for only then do they stand still. A driver notices
            nothing of a pause but that it waits.
            """,
        subcommands: [DeviceList.self, DeviceShow.self, DeviceGet.self, DeviceDo.self, DeviceSave.self, DeviceLoad.self])
}

struct DeviceList: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "Lists the devices of a run directory.")
    @OptionGroup var host: HostOptions
    @OptionGroup var format: ListFormat

    func run() throws {
        let directory = try host.directory()
        let answers = DeviceClient.all(.list, in: directory)
        guard !answers.isEmpty else { throw DeviceClient.nobody(in: directory) }
        var rows: [[String]] = []
        for case .done(let lines) in answers.map(\.answer) { rows += lines.map { $0.split(separator: "\t").map(String.init) } }
        format.show(["Device", "Kind", "Transport", "Phase"], rows)
    }
}

/// A device, where it is.
struct DeviceArgument: ParsableArguments {
    @OptionGroup var host: HostOptions
    @Argument(help: ArgumentHelp("The device, as `causeway device list` has it.", valueName: "device")) var device: String

    /// Its name; `1/xvda` and `1/51712` name a disk, too, and `1/0` an interface: no disk's number is so small.
    var name: String {
        let words = device.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard words.count == 2, UInt16(words[0]) != nil else { return device }
        if let disk = Self.disk(words[1]) { return "vbd-\(words[0])/\(disk.number)" }
        return UInt32(words[1]) == nil ? device : "vif-\(words[0])/\(words[1])"
    }

    /// The disk that a word names; nil: it names an interface, or nothing. No disk has so small a number as interfaces
    /// do.
    static func disk(_ word: String) -> VirtualDevice? { VirtualDevice(word).flatMap { $0.number < 256 ? nil : $0 } }

    func ask(_ request: (String) -> ControlRequest) throws(Failure) -> [String] {
        try DeviceClient.ask(request(name), of: name, in: try host.directory())
    }

    /// Its attributes, by name.
    func attributes() throws(Failure) -> [(name: String, value: String)] {
        try ask { .show(device: $0) }.map { line in
            let words = line.split(separator: "\t", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            return (words[0], words.count > 1 ? words[1] : "")
        }
    }
}

struct DeviceShow: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Shows a device's attributes, all that can be read now.")
    @OptionGroup var target: DeviceArgument
    @Argument(
        help: ArgumentHelp(
            "One group: identity, geometry, agreement, queue, network, memory or counters.", valueName: "group"))
    var group: String?
    @Flag(help: "One line of JSON instead of a table.") var json = false

    func run() throws {
        let wanted = try target.attributes().filter { group == nil || $0.name.hasPrefix("\(group ?? "").") }
        guard !wanted.isEmpty || group == nil else {
            throw Failure("device: \(target.device): nothing of \(group ?? "") can be read now; most only while it is paused")
        }
        if json { return printJSON(Dictionary(wanted.map { ($0.name, JSONValue($0.value)) }) { $1 }) }
        for line in Table.lines(wanted.map { [$0.name, $0.value] }) { printLine(line) }
    }
}

struct DeviceGet: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "get", abstract: "Prints the value of one attribute.")
    @OptionGroup var target: DeviceArgument
    @Argument(help: ArgumentHelp("Its name, such as geometry.bytes.", valueName: "attribute")) var attribute: String

    func run() throws {
        guard let found = try target.attributes().first(where: { $0.name == attribute }) else {
            throw Failure("device: \(ControlError.noSuchAttribute(device: target.device, attribute))")
        }
        printLine(found.value)
    }
}

struct DeviceDo: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "do", abstract: "Has a device do something, and waits for it.",
        discussion: """
            COMMAND is one of \(DeviceCommand.summary). `pause` waits until what is in work has ended, 5000 milliseconds unless it is told
            otherwise.
            """)
    @OptionGroup var target: DeviceArgument
    @Argument(help: ArgumentHelp("What to do, and what that takes.", valueName: "command")) var words: [String]

    func run() throws {
        let command: DeviceCommand
        do throws(ControlError) { command = try DeviceCommand(words) } catch { throw Failure.usage("device: \(error)") }
        _ = try target.ask { .perform(device: $0, command) }
    }
}

struct DeviceSave: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "save", abstract: "Writes a paused device's state to standard output.")
    @OptionGroup var target: DeviceArgument

    func run() throws {
        guard isatty(1) == 0 else { throw Failure.usage("device: save: standard output is a terminal; redirect it") }
        guard let line = try target.ask({ .save(device: $0) }).first, let bytes = ControlRequest.bytes(line) else {
            throw Failure("device: \(target.device): its process said something else; it may be another version")
        }
        do throws(Errno) { try Descriptor.writeAll(bytes, to: 1) } catch { throw Failure("standard output: \(error)") }
    }
}

struct DeviceLoad: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load", abstract: "Gives a device the state that standard input has, where that has a meaning.",
        discussion: """
            The device must be paused, or without a driver, and like the one that was saved. Of a device of Xen's the counters go on; a guest
            that moved here brings the rest when it connects. The session of a vhost-user device is made of descriptors, which are not in a
            file: it is refused, and `causeway upgrade` hands them on.
            """)
    @OptionGroup var target: DeviceArgument

    /// As much as fits into a request.
    private static let mostBytes = ControlRequest.mostBytes / 2 - 4096

    func run() throws {
        var bytes: [UInt8] = []
        do throws(Errno) {
            while true {
                let more = try StreamSocket.receive(0, capacity: 65536, wait: true)
                if more.isEmpty { break }
                bytes += more
                guard bytes.count <= Self.mostBytes else { throw Errno(EFBIG) }
            }
        } catch { throw Failure("device: standard input: \(error)") }
        let state = bytes
        _ = try target.ask { .load(device: $0, state) }
    }
}
