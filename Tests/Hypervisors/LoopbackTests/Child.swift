// A real process of its own, killed with the test.

import Foundation
import LinuxSystem

final class Child: @unchecked Sendable {
    let process = Process()
    private let output = Pipe()
    private var buffered = Data()

    var pid: Int32 { process.processIdentifier }

    /// Starts a program with `socket` as its standard input.
    init(_ program: String, _ arguments: [String], socket: Descriptor? = nil) throws {
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.standardOutput = output
        process.standardInput =
            socket.map { FileHandle(fileDescriptor: $0.rawValue, closeOnDealloc: false) } ?? FileHandle.nullDevice
        try process.run()
    }

    /// The Swift process of Tests/LoopbackProbe.
    static func probe(_ arguments: [String], socket: Descriptor? = nil) throws -> Child {
        try Child(probePath, arguments, socket: socket)
    }

    /// The hostile process of evil.py.
    static func evil(_ arguments: [String], socket: Descriptor? = nil) throws -> Child {
        try Child("/usr/bin/env", ["python3", evilPath] + arguments, socket: socket)
    }

    static var evilPath: String { Bundle.module.path(forResource: "evil", ofType: "py") ?? "evil.py" }

    /// Beside the test bundle, where SwiftPM puts executables.
    static var probePath: String {
        Bundle.module.bundleURL.deletingLastPathComponent().appendingPathComponent("loopback-probe").path
    }

    /// The next line that it prints; nil if it ends, or says nothing for so long.
    func line(seconds: Double = 20) throws -> String? {
        let end = Date().addingTimeInterval(seconds)
        let descriptor = output.fileHandleForReading.fileDescriptor
        while true {
            if let newline = buffered.firstIndex(of: 10) {
                defer { buffered = Data(buffered[(newline + 1)...]) }
                return String(decoding: buffered[..<newline], as: UTF8.self)
            }
            let left = end.timeIntervalSinceNow
            guard left > 0, try waitReadable(descriptor, milliseconds: Int32(left * 1000)) else { return nil }
            let data = output.fileHandleForReading.availableData
            if data.isEmpty { return nil }
            buffered.append(data)
        }
    }

    /// What evil.py found out.
    func report() throws -> [String: Any] {
        guard let text = try line(), let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
        else { return [:] }
        return object
    }

    func signal(_ number: Int32) { kill(pid, number) }

    /// `kill -9`, and waits until it is gone.
    func end() {
        if process.isRunning { kill(pid, SIGKILL) }
        process.waitUntilExit()
    }

    deinit { end() }
}
