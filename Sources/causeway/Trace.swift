// causeway trace: a vif's frames as a pcapng file, while it runs. The backend writes them to a pipe that is named in the vif's directory, so
// a backend that is started again goes on where the last one ended.

import ArgumentParser
import CLinux
import Glibc
import LinuxSystem
import Toolstack
import XenStore

struct Trace: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Writes a network interface's frames as pcapng until interrupted, for Wireshark or tcpdump.",
        usage: "causeway trace [--output FILE] [DOMAIN] NUMBER|MAC",
        discussion: """
            Each frame's ring slots are in its comment. A frame to the guest is inbound, one from it outbound. A reader that is too slow loses
            frames, never the guest: how many is in the next frame's drop count. To look on: causeway trace 0 | tcpdump -r -
            """)

    @OptionGroup var host: HostOptions
    @Option(name: .shortAndLong, help: "The file; standard output if not given.") var output: String?
    @Option(name: .shortAndLong, help: "Ends after so many seconds.") var seconds: Double?
    @Argument(help: "A domain, if there are several, then the interface's number or address.") var words: [String]

    func run() throws {
        guard words.count <= 2, let name = words.last else { throw Failure.usage("trace: [DOMAIN] NUMBER|MAC") }
        Signals.block(Signals.termination)
        let directory = try host.directory()
        let store = try directory.connectStore()
        defer { store.close() }
        let guest = try words.count == 2 ? Guests.find(words[0], in: store) : Guests.only(in: store)
        let node = try failing("trace: \(name)") {
            try DeviceDirectories(store: store).findInterface(name, of: guest).paths.backendPath + "/trace"
        }
        let target = try openOutput()
        let path = "\(directory.path)/trace.\(getpid())"
        guard unsafe mkfifo(path, 0o600) == 0 else { throw Failure("trace: \(path): \(systemMessage(errno))") }
        defer { UnixSocket.remove(path) }
        let pipe: Descriptor
        // For writing, too: so it does not end with a backend that does.
        do { pipe = try Descriptor.open(path, O_RDWR | O_NONBLOCK) } catch { throw Failure("trace: \(path): \(error)") }
        _ = causeway_set_pipe_size(pipe.rawValue, 1 << 20)
        do { try store.write(node, path) } catch { throw Failure("trace: \(node): \(error)") }
        defer { try? store.remove(node) }
        try copy(from: pipe, to: target)
    }

    private func openOutput() throws(Failure) -> Descriptor {
        do throws(Errno) {
            guard let output else { return try Descriptor.open("/dev/stdout", O_WRONLY) }
            return try Descriptor.open(output, O_WRONLY | O_CREAT | O_TRUNC)
        } catch { throw Failure("trace: \(output ?? "standard output"): \(error)") }
    }

    private func copy(from pipe: Descriptor, to target: Descriptor) throws(Failure) {
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        let end = seconds.map { ContinuousClock.now + .milliseconds(Int($0 * 1000)) }
        var isEnding = false
        while true {
            if Signals.wait(for: Signals.termination, milliseconds: 0) != nil { isEnding = true }
            if let end, ContinuousClock.now >= end { isEnding = true }
            let count = unsafe buffer.withUnsafeMutableBytes { unsafe read(pipe.rawValue, $0.baseAddress, $0.count) }
            if count <= 0 {
                // What was written before the end is in the file.
                if isEnding { return }
                _ = try? waitReadable(pipe.rawValue, -1, milliseconds: 50)
                continue
            }
            var done = 0
            while done < count {
                let written = unsafe buffer.withUnsafeBytes { unsafe write(target.rawValue, $0.baseAddress! + done, count - done) }
                if written > 0 { done += written } else if errno != EINTR { throw Failure("trace: \(systemMessage(errno))") }
            }
            // Whole blocks only: what is in the pipe now is the last of it.
            if isEnding, count < buffer.count { return }
        }
    }
}
