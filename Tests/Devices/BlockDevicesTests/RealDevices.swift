// Loop devices, small file systems and NBD servers for tests. Each removes itself with its last reference.

import TestSupport
import Foundation
import Glibc
import LinuxSystem

struct CommandFailed: Error { let text: String }

/// Loop devices and mounts need root and a kernel that lets it have them.
let canUseLoopDevices = geteuid() == 0 && access("/dev/loop-control", W_OK) == 0

@discardableResult
func command(_ arguments: String...) throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = arguments
    let output = Pipe()
    process.standardOutput = output
    process.standardError = output
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { throw CommandFailed(text: "\(arguments): \(text)") }
    return text.trimmingCharacters(in: .whitespacesAndNewlines)
}

final class LoopDevice {
    let path: String
    let backing: String
    private let directory: TemporaryDirectory

    init(byteCount: UInt64, sectorSize: Int = 512, readOnly: Bool = false, contents: [UInt8] = [], in parent: String? = nil) throws
    {
        directory = try parent.map { try TemporaryDirectory(in: $0) } ?? TemporaryDirectory()
        backing = try directory.file("backing.img", byteCount: byteCount)
        if !contents.isEmpty {
            let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: backing))
            try handle.write(contentsOf: Data(contents))
            try handle.close()
        }
        path =
            readOnly
            ? try command("losetup", "--find", "--show", "-r", "-b", "\(sectorSize)", backing)
            : try command("losetup", "--find", "--show", "-b", "\(sectorSize)", backing)
    }

    deinit { _ = try? command("losetup", "-d", path) }
}

/// A tmpfs of so many bytes.
final class SmallFileSystem {
    let directory: TemporaryDirectory
    var path: String { directory.path }
    init(byteCount: Int) throws {
        directory = try TemporaryDirectory()
        try command("mount", "-t", "tmpfs", "-o", "size=\(byteCount)", "none", directory.path)
    }
    deinit { _ = try? command("umount", "-l", directory.path) }
}

/// nbdkit on a unix socket.
final class NBDServer {
    private let directory: TemporaryDirectory
    /// From the next start on.
    var arguments: [String]
    private var process: Process?
    let socket: String
    var uri: String { "nbd+unix:///?socket=\(socket)" }

    /// `arguments`: plugin, filters and their parameters.
    init(_ arguments: [String]) throws {
        directory = try TemporaryDirectory()
        socket = directory.path + "/nbd.sock"
        self.arguments = arguments
        try start()
    }

    func start() throws {
        unlink(socket)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["nbdkit", "--foreground", "--exit-with-parent", "--unix", socket] + arguments
        process.standardError = FileHandle.nullDevice
        try process.run()
        self.process = process
        guard eventually(5000, { StreamSocket.isListening(at: self.socket) }) else {
            throw CommandFailed(text: "nbdkit did not come up: \(arguments)")
        }
    }

    /// Kills the server at once.
    func kill() {
        guard let process = process.take() else { return }
        Glibc.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    deinit { kill() }
}

/// Any other server on a unix socket.
final class Processes {
    private let socket: String
    private let arguments: [String]
    private var process: Process?

    init(_ socket: String, _ arguments: [String]) {
        self.socket = socket
        self.arguments = arguments
    }

    var isRunning: Bool { process?.isRunning ?? false }

    func start() throws {
        unlink(socket)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = arguments
        process.standardError = FileHandle.nullDevice
        try process.run()
        self.process = process
        guard eventually(5000, { StreamSocket.isListening(at: self.socket) }) else {
            throw CommandFailed(text: "did not come up: \(arguments)")
        }
    }

    /// Kills it at once.
    func kill() {
        guard let process = process.take() else { return }
        Glibc.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    deinit { kill() }
}

/// Bytes that a file really occupies.
func occupied(_ path: String) -> Int {
    var status = stat()
    return stat(path, &status) == 0 ? Int(status.st_blocks) * 512 : -1
}
