// Threads that answer: what stands at the other end of what is measured, or of what it is compared with.

import LinuxSystem

/// A thread at the other end of a socket that answers each packet with another: the least that a hypervisor in a
/// process costs.
final class SocketEcho {
    private let near: Descriptor
    private let thread: WorkerThread
    private var packet = [UInt8](repeating: 0, count: size)
    /// As many bytes as a small request has.
    private static let size = 64

    init() throws(Errno) {
        let (near, far) = try PacketSocket.pair()
        self.near = near
        thread = try WorkerThread(name: "echo") {
            var packet = [UInt8](repeating: 0, count: Self.size)
            while let count = try? far.read(into: &packet), count > 0, let sent = try? far.write(packet[...]), sent > 0 {}
        }
    }

    /// One packet there and one back.
    func ask() {
        _ = try? near.write(packet[...])
        _ = try? near.read(into: &packet)
    }

    func end() {
        near.shutDown()
        thread.join()
    }
}

/// Answers whenever something can be read, until it is ended.
final class EchoThread {
    private let stopper: WakePipe
    private let thread: WorkerThread

    init(_ descriptor: Descriptor, _ answer: @escaping @Sendable () -> Void) throws {
        let stopper = try WakePipe()
        self.stopper = stopper
        thread = try WorkerThread(name: "echo") {
            while (try? waitReadable(descriptor.rawValue, stopper.reader.rawValue, milliseconds: -1)) == true {
                // Only `end` writes there.
                if (try? waitReadable(stopper.reader.rawValue, milliseconds: 0)) == true { return }
                answer()
            }
        }
    }

    func end() {
        signalPipe(stopper.writer)
        thread.join()
    }
}
