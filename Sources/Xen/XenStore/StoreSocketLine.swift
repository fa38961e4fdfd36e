// A store server behind a descriptor: a thread of the wire's own reads.

import Glibc
import LinuxSystem
import Synchronization

/// A socket, or /dev/xen/xenbus.
final class StoreSocketLine: StoreLine {
    private let descriptor: Descriptor
    private let isSocket: Bool
    private let time: any TimeSource
    private let stop: WakePipe
    private let thread = Mutex<WorkerThread?>(nil)

    init(_ descriptor: Descriptor, _ time: any TimeSource) throws(StoreError) {
        self.descriptor = descriptor
        self.time = time
        isSocket = descriptor.isSocket
        do { stop = try WakePipe() } catch { throw .disconnected("no pipe: \(error)") }
    }

    func open(
        deliver: @escaping @Sendable (StoreMessage) -> Bool, end: @escaping @Sendable (String) -> Void
    ) throws(StoreError) {
        let reader = StoreReader(descriptor: descriptor.rawValue, stop: stop.reader.rawValue, time: time)
        do throws(Errno) {
            let started = try WorkerThread(name: "xenstore", blocksSignals: true) { reader.run(deliver: deliver, end: end) }
            thread.withLock { $0 = started }
        } catch { throw .disconnected("no thread: \(error)") }
    }

    func send(_ bytes: [UInt8]) throws(Errno) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let part = rest
            let count = try outlastingShortage(time) { () throws(Errno) in
                try StreamSocket.send(descriptor.rawValue, part, isSocket: isSocket, wait: true)
            }
            rest = rest.dropFirst(count)
        }
    }

    func close() {
        signalPipe(stop.writer)
        // Also ends a send that waits for a server that does not read.
        if isSocket { descriptor.shutDown() }
        thread.withLock { $0.take() }?.join()
    }
}

/// The reading side: cuts what arrives into messages until told to stop.
private struct StoreReader: Sendable {
    let descriptor: Int32
    let stop: Int32
    let time: any TimeSource

    func run(deliver: (StoreMessage) -> Bool, end: (String) -> Void) {
        var parser = StoreMessageParser()
        while true {
            do {
                var entries = [
                    pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0), pollfd(fd: stop, events: Int16(POLLIN), revents: 0),
                ]
                _ = try outlastingShortage(time) { () throws(Errno) in try waitForEvents(&entries, milliseconds: -1) }
                if entries[1].revents != 0 { return }
                guard entries[0].revents != 0 else { continue }
                let bytes = try outlastingShortage(time) { () throws(Errno) in
                    try StreamSocket.receive(descriptor, capacity: 65536, wait: true)
                }
                if bytes.isEmpty { return end("the server closed the connection") }
                parser.append(bytes)
                while let message = try parser.next() {
                    guard deliver(message) else { return }
                }
            } catch let error as StoreProtocolViolation {
                return end("the server sent a message of \(error.length) bytes")
            } catch {
                return end("cannot receive: \(error)")
            }
        }
    }
}
