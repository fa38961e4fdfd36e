// The least that two taps cost: one process that reads a frame from the one and writes it to the other, with no rings, no grants and nothing
// looked at. What a pair reaches beside this is what its protocol costs; what this reaches beside veth is what two taps cost.

import ArgumentParser
import CLinux
import Glibc
import LinuxSystem

/// causeway bench forward: the reference of `bench network` that has taps, too.
struct BenchForward: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "forward", shouldDisplay: false)

    @Option var near: String
    @Option var far: String
    @Option var netns: String

    func run() throws {
        let here = try Self.open(near)
        try NetworkNamespace.enter(netns)
        let there = try Self.open(far)
        do {
            let back = try WorkerThread(name: "forward") { Self.forward(from: there, to: here) }
            Self.forward(from: here, to: there)
            back.join()
        } catch { throw Failure("bench forward: a thread: \(error)") }
    }

    private static func open(_ name: String) throws(Failure) -> Descriptor {
        let raw = unsafe causeway_tap_open(name)
        guard raw >= 0 else { throw Failure("bench forward: \(name): \(systemMessage(errno))") }
        let tap = Descriptor(owning: raw)
        // Blank checksums and large frames of both versions, as the pair has them.
        guard causeway_tap_offload(tap.rawValue, 0xF) == 0 else { throw Failure("bench forward: \(name): \(systemMessage(errno))") }
        return tap
    }

    /// Until one of them fails. Waits only where there is nothing to read, or no room.
    private static func forward(from source: Descriptor, to target: Descriptor) {
        var frame = [UInt8](repeating: 0, count: 10 + 65_536)
        while true {
            let count = unsafe read(source.rawValue, &frame, frame.count)
            if count < 0 {
                guard errno == EAGAIN || errno == EINTR else { return }
                wait(source, POLLIN)
                continue
            }
            while unsafe write(target.rawValue, frame, count) < 0 {
                guard errno == EAGAIN || errno == EINTR else { break }
                wait(target, POLLOUT)
            }
        }
    }

    private static func wait(_ tap: Descriptor, _ events: Int32) {
        var wanted = pollfd(fd: tap.rawValue, events: Int16(events), revents: 0)
        _ = unsafe poll(&wanted, 1, -1)
    }
}
