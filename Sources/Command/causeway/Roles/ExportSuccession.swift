// What an export leaves to the program that takes its place: in a file, for both are one process, which keeps its
// descriptors, its children and its number while its program becomes another.

import CommandSupport
import DeviceState
import FoundationEssentials
import LinuxSystem
import VhostUser

/// An export that has been put by.
struct ExportSuccession: Codable {
    /// Grows when what is here changes its meaning; a program that has another is not asked to go on with it.
    static let format = 1

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
    var disks: [Disk]

    /// COMMAND, as a child.
    struct Command: Codable {
        var process: Int32
        var leadsGroup: Bool
    }

    /// One disk's server; descriptors are named by their numbers.
    struct Disk: Codable {
        var vdev: String
        var path: String
        var listener: Int32
        /// nil: it has no front end.
        var frontend: Frontend?
    }

    /// A front end that waits, and has not noticed.
    struct Frontend: Codable {
        var socket: Int32
        /// As `DeviceState.encoded` has it.
        var state: Data
        var descriptors: [Int32]

        init(_ handover: VhostHandover) {
            socket = handover.socket.rawValue
            state = Data(handover.state.encoded)
            descriptors = handover.descriptors.map(\.rawValue)
        }

        func handover(_ table: inout InheritedDescriptors) throws(DeviceStateError) -> VhostHandover {
            let state = try DeviceState(decoding: Array(state), understands: VhostSession.understands)
            return VhostHandover(state, descriptors.map { table[$0] }, socket: table[socket])
        }
    }

    func write(to path: String) throws(Failure) {
        // Numbers and texts: there is nothing in it that cannot be encoded.
        guard let bytes = try? JSONEncoder().encode(self) else { throw Failure("export: \(path): cannot be put into words") }
        do throws(Errno) { try FileSystem.replace(path, with: Array(bytes)) } catch {
            throw Failure("export: \(path): \(error)")
        }
    }

    /// Reads what a predecessor left, and removes it.
    init(takenFrom path: String) throws(Failure) {
        defer { FileSystem.remove(path) }
        guard let text = FileSystem.text(of: path) else { throw Failure("export: \(path): cannot be read") }
        guard let left = try? JSONDecoder().decode(Self.self, from: Data(text.utf8)) else {
            throw Failure("export: \(path): is not what an export leaves")
        }
        self = left
        guard format == Self.format else { throw Failure("export: \(path): of format \(format); this is for \(Self.format)") }
    }

    init(heldAt: UInt64, _ directory: PairDirectory, _ command: Command?, asker: Int32, _ disks: [Disk]) {
        self.heldAt = heldAt
        self.directory = directory.run.path
        isPrivate = directory.isPrivate
        self.command = command
        self.asker = asker
        self.disks = disks
    }
}

/// Descriptors that this process had before it became the program that it is; each has one owner from here on.
struct InheritedDescriptors {
    private var owned: [Int32: Descriptor] = [:]

    subscript(_ number: Int32) -> Descriptor {
        mutating get {
            if let descriptor = owned[number] { return descriptor }
            let descriptor = Descriptor(owning: number)
            descriptor.closeOnExec()
            owned[number] = descriptor
            return descriptor
        }
    }
}
