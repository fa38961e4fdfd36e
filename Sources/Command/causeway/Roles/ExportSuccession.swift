// What an export leaves to the program that takes its place: each device with its socket, its front end and what is
// behind it, descriptors by numbers that whoever takes them over knows.

import CommandSupport
import DeviceState
import FoundationEssentials
import LinuxSystem
import VhostUser

/// An export that has been put by.
struct ExportSuccession: Codable {
    /// Grows when what is here changes its meaning; a program that has another is not asked to go on with it.
    static let format = 2

    var format = Self.format
    /// The version that put it by.
    var version = causewayVersion
    /// When that was, in nanoseconds of the monotonic clock.
    var heldAt: UInt64
    /// Where the sockets are, and whether the directory goes with the export.
    var directory: String
    var isPrivate: Bool
    var command: Command?
    /// The connection of whoever asked for it.
    var asker: Int32
    var devices: [Device]

    /// COMMAND, as a child.
    struct Command: Codable {
        var process: Int32
        var leadsGroup: Bool
    }

    /// One device's server.
    struct Device: Codable {
        /// As messages name it.
        var name: String
        var path: String
        var listener: Int32
        /// nil: it has no front end.
        var frontend: Frontend?
        /// Of an interface.
        var vif: Vif?
    }

    /// What an interface has beside its server.
    struct Vif: Codable {
        /// nil: it is its driver's business.
        var mac: String?
        var tap: String?
        /// See `NetworkDevice`.
        var lifeline: [Int32]
    }

    /// A front end that waits, and has not noticed.
    struct Frontend: Codable {
        var socket: Int32
        /// As `DeviceState.encoded` has it.
        var state: Data
        var descriptors: [Int32]

        init(_ handover: VhostHandover, _ number: (Descriptor) -> Int32) {
            socket = number(handover.socket)
            state = Data(handover.state.encoded)
            descriptors = handover.descriptors.map(number)
        }

        func handover(_ table: inout InheritedDescriptors, wasKilled: Bool) throws(DeviceStateError) -> VhostHandover? {
            let state = try DeviceState(decoding: Array(state), understands: VhostSession.understands)
            guard let socket = table[socket], let descriptors = table.all(descriptors) else { return nil }
            return VhostHandover(state, descriptors, socket: socket, wasKilled: wasKilled)
        }
    }

    /// - Parameter user: whom messages name.
    func write(to path: String, for user: String = "export") throws(Failure) {
        // Numbers and texts: there is nothing in it that cannot be encoded.
        guard let bytes = try? JSONEncoder().encode(self) else { throw Failure("\(user): \(path): cannot be put into words") }
        do throws(Errno) { try FileSystem.replace(path, with: Array(bytes)) } catch {
            throw Failure("\(user): \(path): \(error)")
        }
    }

    /// Reads what a predecessor left, and removes it.
    init(takenFrom path: String, for user: String = "export") throws(Failure) {
        defer { FileSystem.remove(path) }
        guard let text = FileSystem.text(of: path) else { throw Failure("\(user): \(path): cannot be read") }
        guard let left = try? JSONDecoder().decode(Self.self, from: Data(text.utf8)) else {
            throw Failure("\(user): \(path): is not what \(user == "export" ? "an" : "a") \(user) leaves")
        }
        self = left
        guard format == Self.format else { throw Failure("\(user): \(path): of format \(format); this is for \(Self.format)") }
    }

    init(
        heldAt: UInt64, _ directory: RunDirectory, isPrivate: Bool = false, _ command: Command? = nil, asker: Int32,
        _ devices: [Device]
    ) {
        self.heldAt = heldAt
        self.directory = directory.path
        self.isPrivate = isPrivate
        self.command = command
        self.asker = asker
        self.devices = devices
    }
}

/// Descriptors that a predecessor left, by its numbers.
struct InheritedDescriptors {
    private var owned: [Int32: Descriptor] = [:]
    /// Whether the numbers are this process's own, which it had before it became the program that it is.
    private let isOwn: Bool

    /// Those of this process, each of which has one owner from here on.
    init() { isOwn = true }

    /// Those that a keeper has sent.
    init(_ received: [Int32: Descriptor]) {
        owned = received
        isOwn = false
    }

    /// nil: there is none of this number.
    subscript(_ number: Int32) -> Descriptor? {
        mutating get {
            if let descriptor = owned[number] { return descriptor }
            guard isOwn, number > 2 else { return nil }
            let descriptor = Descriptor(owning: number)
            descriptor.closeOnExec()
            owned[number] = descriptor
            return descriptor
        }
    }

    /// All of them, or nil.
    mutating func all(_ numbers: [Int32]) -> [Descriptor]? {
        var all: [Descriptor] = []
        for number in numbers {
            guard let descriptor = self[number] else { return nil }
            all.append(descriptor)
        }
        return all
    }
}
