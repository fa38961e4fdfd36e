// One client: its handshake, its requests, its end. This file: what it is made of, and its turns; receiving, beginning
// and answering have files of their own. On the server's thread only.

import BlockFrontend
import LinuxSystem
import Reactor
import SharedMemory

/// A request that was taken and not answered.
struct PendingRequest {
    var header: NBDRequest
    /// nil: no command that this server knows.
    var command: NBDCommand?
    /// Bytes that pieces have been begun for, or received.
    var issued = 0
    /// Pieces under way.
    var pieces = 0
    /// Nothing more will be begun for it.
    var isIssued = false
    /// The flush that makes it durable was begun.
    var isFlushed = false
    var outcome = NBDError.none
    /// What a small read has read, until it is sent.
    var lease: Lease?
    var skip = 0
    /// What a large read has read.
    var gathered: AlignedBuffer?

    var byteCount: Int { Int(header.byteCount) }
}

final class NBDSession: ReactorClient {
    /// Requests of one client under way at most; what it sends beyond stays in its socket.
    static let mostRequests = 256
    /// Room for what has arrived: about thirty writes of 4 KiB.
    static let inboxBytes = 128 << 10
    /// The longest read or write.
    static let mostTransferBytes: UInt32 = 32 << 20

    enum Phase {
        case handshake
        case serving
        /// Its last answer is to be sent, and nothing more is heard.
        case leaving
        /// The socket is of no more use.
        case gone
    }

    let server: NBDServer
    let disk: ServedDisk
    let socket: Descriptor
    private(set) var file: ReactorFile?
    private(set) var place: ReactorSlot?
    var phase = Phase.handshake
    var handshake = NBDHandshake()
    /// Its server counts it among its clients.
    var isCounted = false

    // Requests.
    var requests: [PendingRequest?]
    var freeRequests: [Int]
    /// The one that is being received or begun, which those behind it wait for.
    var current: Int?
    /// The piece that a write's bytes are received into, and how many it has.
    var filling: (piece: Piece, filled: Int)?
    /// `current` is a write that was refused, whose bytes are thrown away.
    var isSkipping = false
    /// Waits for a lease.
    var isHungry = false
    /// Pages of its leases.
    var pages = 0
    /// A large read keeps memory of its own: one at a time.
    var isGathering = false
    /// Something was begun in this turn.
    var hasBegun = false

    // What arrives.
    let inbox: AlignedBuffer
    var unread = 0..<0
    var isReceiving = false
    let incoming = VectorList()
    /// Of `incoming`, what goes straight into a piece.
    var direct = 0

    // What is sent.
    let headers: AlignedBuffer
    let outgoing = VectorList(capacity: 64)
    var isSending = false
    /// Requests that are done, in that order.
    var done: [Int] = []
    /// Those whose answers are being sent.
    var sent: [Int] = []
    /// Bytes of the handshake that are to be sent, and the memory that they are sent from.
    var talk: [UInt8] = NBDHandshake.greeting

    enum Tag {
        static let receive: UInt32 = 0
        static let send: UInt32 = 1
        static let patience: UInt32 = 2
    }

    /// nil: there is no memory for it.
    init?(_ socket: Descriptor, of server: NBDServer, on disk: ServedDisk) {
        let replyBytes = NBDHandshake.mostReplyBytes + NBDHandshake.mostOptionBytes
        let headerBytes = max(Self.mostRequests * NBDReplyHeader.placeBytes, replyBytes)
        guard let inbox = AlignedBuffer(byteCount: Self.inboxBytes, alignment: 4096),
            let headers = AlignedBuffer(byteCount: headerBytes, alignment: 4096)
        else { return nil }
        self.socket = socket
        self.server = server
        self.disk = disk
        self.inbox = inbox
        self.headers = headers
        requests = Array(repeating: nil, count: Self.mostRequests)
        freeRequests = Array((0..<Self.mostRequests).reversed())
    }

    /// On the reactor's thread, once.
    func attach() {
        file = disk.reactor.addFile(socket)
        let place = disk.reactor.attach(self)
        self.place = place
        disk.reactor.after(microseconds: server.handshakeMicroseconds, place, tag: Tag.patience)
    }

    /// Requests under way.
    var pending: Int { Self.mostRequests - freeRequests.count }

    // MARK: Turns

    func poll() -> Bool {
        var worked = false
        switch phase {
        case .handshake: worked = talkOn()
        case .serving, .leaving: worked = takeRequests()
        case .gone: break
        }
        if hasBegun {
            hasBegun = false
            disk.kick()
        }
        if sendReady() { worked = true }
        receive()
        if phase == .leaving, pending == 0, !isSending, done.isEmpty, talk.isEmpty { end() }
        if phase == .gone { leaveIfDone() }
        return worked
    }

    func prepareToSleep() -> Bool { false }

    func completed(tag: UInt32, result: Int32) {
        switch tag {
        case Tag.receive: received(result)
        case Tag.send: sent(result)
        default: if phase == .handshake { end() }
        }
    }

    // MARK: End

    /// Hears nothing more, and goes when everything that it asked for is answered.
    func leave() {
        guard phase == .handshake || phase == .serving else { return }
        if phase == .handshake { return end() }
        phase = .leaving
    }

    /// The connection is over. What is under way on the disk goes on, and its memory is kept until it is done.
    func end() {
        guard phase != .gone else { return }
        phase = .gone
        socket.shutDown()
    }

    /// There are no turns any more.
    func abandon() {
        if let place { disk.reactor.detach(place) }
        place = nil
    }

    private func leaveIfDone() {
        guard let place, let file, !isReceiving, !isSending else { return }
        if let filling, let lease = filling.piece.lease {
            // It was never begun.
            disk.release(lease, of: self)
            self.filling = nil
        }
        for index in requests.indices {
            guard let request = requests[index], request.pieces == 0 else { continue }
            if let lease = request.lease { disk.release(lease, of: self) }
            free(index)
        }
        done.removeAll()
        guard pending == 0, disk.reactor.inFlight(place) == 0 else { return }
        self.place = nil
        disk.reactor.removeFile(file)
        disk.reactor.detach(place)
        disk.forget(self)
        server.forget(self)
    }

    func free(_ index: Int) {
        if requests[index]?.gathered != nil { isGathering = false }
        requests[index] = nil
        freeRequests.append(index)
        if current == index {
            current = nil
            isSkipping = false
        }
    }
}
