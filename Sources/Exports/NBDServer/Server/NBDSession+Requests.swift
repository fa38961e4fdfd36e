// From a request to the pieces that go to the disk. A request is begun wholly before the next is looked at.

import BlockFrontend
import BlockProtocol
import SharedMemory

extension NBDSession {
    /// Pieces of zeroes under way for one request.
    private static var mostZeroPieces: Int { 4 }

    /// Takes a request at place `index`; it becomes the current one, or is refused.
    func take(_ header: NBDRequest, at index: Int) {
        var request = PendingRequest(header: header, command: NBDCommand(rawValue: header.command))
        if request.command == .disconnect {
            freeRequests.append(index)
            return leave()
        }
        request.outcome = refusal(of: request)
        requests[index] = request
        current = index
        guard request.outcome != .none else { return }
        // The bytes of a write come all the same.
        guard request.command == .write else { return finish(index) }
        if header.byteCount > Self.mostTransferBytes { return end() }
        isSkipping = true
    }

    /// Why it cannot be done; `none`: it can.
    private func refusal(of request: PendingRequest) -> NBDError {
        guard let command = request.command else { return .invalid }
        let header = request.header
        guard header.flags.isSubset(of: Self.flags(of: command, isStructured: handshake.isStructured)) else { return .invalid }
        if disk.failure != nil { return .shutDown }
        if command == .flush { return header.offset == 0 && header.byteCount == 0 ? .none : .invalid }
        let isRead = command == .read
        if !isRead, disk.properties.info.contains(.readOnly) { return .notPermitted }
        if isRead || command == .write, header.byteCount > Self.mostTransferBytes { return .overflow }
        guard header.byteCount > 0 else { return .invalid }
        guard let end = header.end, end <= disk.byteCount else { return isRead || command == .trim ? .invalid : .noSpace }
        if command == .trim, disk.properties.discard == nil { return .unsupported }
        // They are written byte by byte.
        if header.flags.contains(.fastZero) { return .unsupported }
        return .none
    }

    private static func flags(of command: NBDCommand, isStructured: Bool) -> NBDCommandFlags {
        switch command {
        case .read: isStructured ? [.dontFragment, .durable] : .durable
        case .writeZeroes: [.durable, .noHole, .fastZero]
        case .write, .trim: .durable
        // It means nothing there, and clients say it.
        case .flush, .disconnect: .durable
        }
    }

    /// Begins more of the current request; false if that has to wait for bytes, for memory or for pieces under way.
    func goOn(_ index: Int) -> Bool {
        guard let request = requests[index] else { return false }
        if isSkipping {
            guard skipPayload(index) else { return false }
            finish(index)
            return true
        }
        switch request.command {
        case .read: return goOnReading(index, request)
        case .write: return goOnWriting(index)
        case .writeZeroes: return goOnZeroing(index, request)
        case .flush: begin(Piece(session: self, request: index, command: .flush))
        case .trim: trim(index, request.header)
        case .disconnect, nil: break
        }
        issued(index)
        return true
    }

    /// The next part of a request, without its memory.
    private func cut(_ index: Int, _ request: PendingRequest, _ command: BlockCommand) -> Piece {
        let unit = disk.sectorBytes
        let start = request.header.offset + UInt64(request.issued)
        let left = request.byteCount - request.issued
        let skip = Int(start) & (unit - 1)
        var useful = min(left, disk.largestPiece - skip)
        if command == .write {
            // What leaves a part of a sector as it is goes alone, and is kept small.
            if skip > 0 { useful = min(left, disk.largestEdge - skip) } else if left >= unit { useful &= ~(unit - 1) }
        }
        var piece = Piece(session: self, request: index, command: command)
        piece.sector = (start - UInt64(skip)) / 512
        piece.byteCount = (skip + useful + unit - 1) & ~(unit - 1)
        piece.skip = skip
        piece.useful = useful
        piece.place = request.issued
        piece.isReadingEdges = piece.isEdge
        return piece
    }

    private func lease(for piece: Piece) -> Lease? {
        guard piece.isEdge else { return disk.lease(piece.byteCount, for: self) }
        return disk.lease(2 * SharedRegion.wholePages(piece.byteCount), for: self)
    }

    private func begin(_ piece: Piece) {
        requests[piece.request]?.issued += piece.useful
        requests[piece.request]?.pieces += 1
        hasBegun = true
        disk.begin(piece)
    }

    private func goOnReading(_ index: Int, _ request: PendingRequest) -> Bool {
        let skip = Int(request.header.offset) & (disk.sectorBytes - 1)
        if skip + request.byteCount > disk.largestPiece, request.gathered == nil {
            if isGathering { return false }
            guard let memory = AlignedBuffer(byteCount: request.byteCount, alignment: 4096) else {
                requests[index]?.outcome = .noMemory
                issued(index)
                return true
            }
            requests[index]?.gathered = memory
            isGathering = true
        }
        while let now = requests[index], now.issued < now.byteCount {
            var piece = cut(index, now, .read)
            guard let lease = lease(for: piece) else { return false }
            piece.lease = lease
            begin(piece)
        }
        issued(index)
        return true
    }

    private func goOnWriting(_ index: Int) -> Bool {
        while let now = requests[index], now.issued < now.byteCount {
            if filling == nil {
                var piece = cut(index, now, .write)
                guard let lease = lease(for: piece) else { return false }
                piece.lease = lease
                filling = (piece, 0)
            }
            guard fill(), let piece = filling?.piece else { return false }
            filling = nil
            begin(piece)
        }
        issued(index)
        return true
    }

    private func goOnZeroing(_ index: Int, _ request: PendingRequest) -> Bool {
        while let now = requests[index], now.issued < now.byteCount {
            guard now.pieces < Self.mostZeroPieces else { return false }
            var piece = cut(index, now, .write)
            guard let lease = lease(for: piece) else { return false }
            piece.lease = lease
            disk.buffer.fill(lease.offset + piece.skip, count: piece.useful)
            begin(piece)
        }
        issued(index)
        return true
    }

    /// Whole sectors only; what is left of others keeps its content, which a client must not rely on either way.
    private func trim(_ index: Int, _ header: NBDRequest) {
        let unit = UInt64(disk.sectorBytes)
        guard let end = header.end else { return }
        let (first, last) = ((header.offset + unit - 1) / unit * unit, end / unit * unit)
        guard first < last else { return }
        var piece = Piece(session: self, request: index, command: .discard)
        piece.sector = first / 512
        piece.byteCount = Int(last - first)
        begin(piece)
    }

    // MARK: Ends

    /// Nothing more is begun for it.
    private func issued(_ index: Int) {
        requests[index]?.isIssued = true
        current = nil
        finishIfDone(index)
    }

    /// A piece has ended; perhaps before `begin` has returned.
    func ended(_ piece: Piece, _ outcome: NBDError) {
        guard var request = requests[piece.request] else { return }
        request.pieces -= 1
        if request.outcome == .none { request.outcome = outcome }
        if let lease = piece.lease {
            if piece.command == .read, request.gathered == nil {
                request.lease = lease
                request.skip = piece.skip
            } else {
                if let memory = request.gathered, outcome == .none {
                    memory.copy(to: piece.place, count: piece.useful, from: disk.buffer, at: lease.offset + piece.skip)
                }
                disk.release(lease, of: self)
            }
        }
        requests[piece.request] = request
        finishIfDone(piece.request)
    }

    private func finishIfDone(_ index: Int) {
        guard let request = requests[index], request.isIssued, request.pieces == 0 else { return }
        let changes = request.command == .write || request.command == .trim || request.command == .writeZeroes
        if changes, request.header.flags.contains(.durable), request.outcome == .none, !request.isFlushed, phase != .gone {
            requests[index]?.isFlushed = true
            return begin(Piece(session: self, request: index, command: .flush))
        }
        finish(index)
    }

    /// It can be answered.
    private func finish(_ index: Int) {
        if current == index {
            current = nil
            isSkipping = false
        }
        requests[index]?.isIssued = true
        if phase != .gone { done.append(index) }
    }
}
