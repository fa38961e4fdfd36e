// A program that is to go on with what this one does: which successions it knows is asked of it on the side, before
// anything is put by for it.

import CommandSupport
import LinuxSystem

enum SuccessorProgram {
    /// Asks a program which successions it can go on with.
    static let formatOption = "--succession-format"

    /// How long a program may take to say what it is.
    private static let patienceMilliseconds = 10_000
    private static let mostPathBytes = 4096

    /// What a program says of a subcommand of its own.
    /// - Throws: in words, where it is older or something else.
    static func format(of program: String, _ subcommand: String) throws(Failure) -> Int {
        let (pipe, child): (WakePipe, ChildProcess)
        do throws(Errno) {
            pipe = try WakePipe()
            child = try ChildProcess.spawn([program, subcommand, formatOption], ownGroup: true, output: pipe.writer, time: .system)
        } catch { throw Failure("\(program): \(error)") }
        guard let status = child.wait(milliseconds: patienceMilliseconds) else {
            child.stop(milliseconds: 0)
            throw Failure("\(program): does not say what it can go on with")
        }
        let said = (try? StreamSocket.receive(pipe.reader.rawValue, capacity: 64, wait: true)) ?? []
        guard status.shellStatus == 0, let format = Int(String(decoding: said, as: UTF8.self).prefix { $0 != "\n" }) else {
            throw Failure("\(program): cannot go on with a running \(subcommand): it is older, or something else")
        }
        return format
    }

    /// The program that somebody names; nil: he says nothing, or too much.
    static func named(by asker: Descriptor) -> String? {
        var bytes: [UInt8] = []
        while bytes.count < mostPathBytes {
            guard let more = try? StreamSocket.receive(asker.rawValue, capacity: 512, wait: true), !more.isEmpty else { return nil }
            bytes += more
            if let end = bytes.firstIndex(of: UInt8(ascii: "\n")) { return String(decoding: bytes[..<end], as: UTF8.self) }
        }
        return nil
    }
}
