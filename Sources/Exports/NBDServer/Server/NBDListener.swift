// Where clients come in.

import LinuxSystem
import Reactor

final class NBDListener: ReactorClient {
    private let socket: Descriptor
    private let server: NBDServer
    private let reactor: Reactor
    private var place: ReactorSlot?
    private var isWaiting = false

    private enum Tag {
        static let ready: UInt32 = 0
        static let again: UInt32 = 1
    }

    init(_ socket: Descriptor, of server: NBDServer, on reactor: Reactor) {
        self.socket = socket
        self.server = server
        self.reactor = reactor
    }

    /// On the reactor's thread, once.
    func attach() {
        // Whoever gave it may share it with others, who take what this one was woken for.
        try? socket.setNonBlocking(true)
        place = reactor.attach(self)
        listen()
    }

    /// Waits for a client, if there is room for one.
    func listen() {
        guard let place, !isWaiting, server.hasRoom else { return }
        isWaiting = true
        reactor.whenReadable(socket, place, tag: Tag.ready)
    }

    func close() {
        guard let place else { return }
        self.place = nil
        reactor.detach(place)
    }

    func poll() -> Bool { false }
    func prepareToSleep() -> Bool { false }

    func completed(tag: UInt32, result: Int32) {
        isWaiting = false
        while server.hasRoom {
            do throws(Errno) {
                guard let client = try StreamSocket.accept(socket) else { break }
                client.setNoDelay()
                server.accepted(client)
            } catch {
                // Without a descriptor for it the client would keep the thread from ever sleeping: it waits.
                guard let place else { return }
                isWaiting = true
                return reactor.after(microseconds: 100_000, place, tag: Tag.again)
            }
        }
        listen()
    }
}
