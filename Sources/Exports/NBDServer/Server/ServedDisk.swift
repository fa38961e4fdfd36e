// A disk under its NBD clients: one queue of a frontend, on the server's thread, and the buffer that every request's
// data pass through: a client's bytes are received into pages that the backend has, and sent from there.

import BlockFrontend
import BlockProtocol
import LinuxSystem
import Reactor
import SharedMemory

/// Part of the queue's buffer, held by one piece.
struct Lease: Sendable {
    let page: Int
    let pages: Int
    var offset: Int { page * SharedRegion.pageSize }
}

/// One operation on the disk: all of a small request, or a part of a large one.
struct Piece {
    /// Whose it is.
    let session: NBDSession
    /// Its request's place there.
    let request: Int
    var command: BlockCommand
    var sector: UInt64 = 0
    /// Whole sectors.
    var byteCount = 0
    var lease: Lease?
    /// Bytes of the first sector that are not the request's.
    var skip = 0
    /// The request's bytes, from `skip` on.
    var useful = 0
    /// Where in the request they begin.
    var place = 0
    /// Whether what is left of its sectors is still to be read before it is written.
    var isReadingEdges = false

    var isWrite: Bool { command == .write }
    /// Whether it is a write that leaves a part of a sector as it is: no other write may be under way meanwhile.
    var isEdge: Bool { isWrite && useful < byteCount }
    /// Where in the lease such a write has what was there before.
    var oldOffset: Int { (lease?.pages ?? 0) / 2 * SharedRegion.pageSize }
}

/// The queue, its leases, and who waits for what.
final class ServedDisk: ReactorClient {
    /// Reads and writes that go to the disk as one operation; larger requests are cut.
    private static let mostPieceBytes = 1 << 20

    let reactor: Reactor
    let buffer: SharedRegion
    var queue: BlockQueue
    var place: ReactorSlot?
    private var allocator: PageAllocator
    /// By tag.
    var flights: [Piece?]
    var freeTags: [Int]
    /// Pieces that have no place in the queue yet, or wait for a write that must be alone; the oldest first.
    var waiting = PieceLine()
    var writesInFlight = 0
    var edgeInFlight = false
    /// What is waited for by the kernel.
    var waits = Waits()
    /// Completions of a turn, kept for their memory.
    var ended: [BlockCompletion] = []
    /// Sessions that wait for a lease.
    var hungry: [NBDSession] = []

    /// - Parameter queue: the frontend's first, which no backend is without.
    init(_ queue: consuming BlockQueue, on reactor: Reactor) {
        self.reactor = reactor
        buffer = queue.buffer
        allocator = PageAllocator(pages: queue.buffer.pageCount)
        let depth = queue.depth
        flights = Array(repeating: nil, count: depth)
        freeTags = Array((0..<depth).reversed())
        self.queue = queue
    }

    /// On the reactor's thread.
    func attach() { place = reactor.attach(self) }

    /// There are no turns any more; what is under way has nobody to be told of its end.
    func abandon() {
        if let place { reactor.detach(place) }
        place = nil
        flights = []
        waiting = PieceLine()
        hungry = []
    }

    /// The disk as of now.
    var properties: BlockProperties { queue.properties }
    var byteCount: UInt64 { queue.properties.sectors * 512 }
    var sectorBytes: Int { Int(queue.properties.sectorSize) }
    /// Why nothing is done any more.
    var failure: BlockFrontendError? { queue.failure }
    var freePages: Int { allocator.freeCount }
    /// Pages that every session may have, however many there are and whatever the others hold.
    private var share: Int { allocator.pageCount / (2 * NBDServer.mostClients) }
    /// The largest piece: every session gets a lease for it in the end.
    var largestPiece: Int { min(Self.mostPieceBytes, share * SharedRegion.pageSize) }
    /// The same for a write that leaves a part of a sector as it is; its lease is twice as large.
    var largestEdge: Int { largestPiece / 2 & ~(sectorBytes - 1) }

    // MARK: Leases

    /// Pages for so many bytes; nil: `session` is told when it is worth trying again. Beyond its share a session gets
    /// pages only while half of them are free: a client that does not take its answers keeps nobody else waiting.
    func lease(_ byteCount: Int, for session: NBDSession) -> Lease? {
        let pages = max(1, (byteCount + SharedRegion.pageSize - 1) / SharedRegion.pageSize)
        if session.pages + pages <= share || allocator.freeCount - pages >= allocator.pageCount / 2,
            let page = allocator.allocate(pages)
        {
            session.pages += pages
            return Lease(page: page, pages: pages)
        }
        if !session.isHungry {
            session.isHungry = true
            hungry.append(session)
        }
        return nil
    }

    func release(_ lease: Lease, of session: NBDSession) {
        allocator.free(lease.page, lease.pages)
        session.pages -= lease.pages
        guard !hungry.isEmpty else { return }
        for session in hungry { session.isHungry = false }
        hungry.removeAll(keepingCapacity: true)
    }

    /// A session is over, and holds nothing.
    func forget(_ session: NBDSession) { hungry.removeAll { $0 === session } }

    // MARK: Operations

    /// Begins an operation, or has it wait for its turn. Its session is told of its end by `ended`.
    func begin(_ piece: Piece) {
        if waiting.isEmpty, tryBegin(piece) { return }
        waiting.append(piece)
    }

    /// Pushes what was begun.
    func kick() { queue.kick() }

    /// False: not now.
    func tryBegin(_ piece: Piece) -> Bool {
        if piece.isWrite, edgeInFlight || piece.isEdge && writesInFlight > 0 { return false }
        guard let tag = freeTags.last else { return false }
        let isTaken: Bool
        do throws(BlockFrontendError) { isTaken = try submit(piece, tag: tag) } catch {
            piece.session.ended(piece, Self.outcome(of: error))
            return true
        }
        guard isTaken else { return false }
        freeTags.removeLast()
        flights[tag] = piece
        if piece.isWrite {
            writesInFlight += 1
            if piece.isEdge { edgeInFlight = true }
        }
        return true
    }

    /// A write that leaves a part of a sector as it is reads its sectors first, into the second half of its lease.
    func submit(_ piece: Piece, tag: Int) throws(BlockFrontendError) -> Bool {
        let start = piece.lease?.offset ?? 0
        return try queue.submit(
            piece.isReadingEdges ? .read : piece.command, sector: piece.sector,
            bufferOffset: piece.isReadingEdges ? start + piece.oldOffset : start, byteCount: piece.byteCount, tag: UInt64(tag))
    }

    static func outcome(of error: BlockFrontendError) -> NBDError {
        if case .badRequest = error { return .invalid }
        return .shutDown
    }
}
