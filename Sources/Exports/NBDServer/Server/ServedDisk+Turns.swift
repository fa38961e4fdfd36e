// The disk's part of each turn: answers taken and handed to their sessions, pieces begun that had to wait, and what is
// waited for while the thread sleeps.

import BlockFrontend
import LinuxSystem
import Reactor

/// What a disk has asked the kernel to watch.
struct Waits {
    enum Tag {
        static let control: UInt32 = 0
        static let recheck: UInt32 = 1
    }

    /// The doorbell that is watched; a new connection has another.
    var doorbell: Descriptor?
    /// Its wait's tag, which no earlier doorbell's wait has.
    var doorbellTag: UInt32 = 2
    var isOnControl = false
    var hasRecheck = false
    /// The doorbell has rung, and that was not acknowledged yet.
    var hasRung = false
}

extension ServedDisk {
    /// How long a ring may have been lost before that is looked for, in microseconds.
    private static var recheckMicroseconds: UInt64 { 1_000_000 }

    func poll() -> Bool {
        if waits.hasRung {
            waits.hasRung = false
            queue.acknowledgeWakeUp()
        }
        queue.reap { ended.append($0) }
        let hasWork = !ended.isEmpty
        if hasWork {
            for completion in ended { finish(completion) }
            ended.removeAll(keepingCapacity: true)
        }
        if beginWaiting() || hasWork { queue.kick() }
        return hasWork
    }

    /// One operation is over: the next stage of its piece, or the piece's end.
    private func finish(_ completion: BlockCompletion) {
        let tag = Int(completion.tag)
        guard flights.indices.contains(tag), var piece = flights[tag] else { return }
        var outcome = Self.outcome(of: completion.outcome)
        if piece.isReadingEdges, outcome == .none, let lease = piece.lease {
            piece.isReadingEdges = false
            let old = lease.offset + piece.oldOffset
            let behind = piece.skip + piece.useful
            buffer.copy(from: buffer, old, count: piece.skip, to: lease.offset)
            buffer.copy(from: buffer, old + behind, count: piece.byteCount - behind, to: lease.offset + behind)
            do throws(BlockFrontendError) {
                if try submit(piece, tag: tag) {
                    flights[tag] = piece
                    return
                }
                // The read's place is free again, so there is one.
                outcome = .io
            } catch { outcome = Self.outcome(of: error) }
        }
        flights[tag] = nil
        freeTags.append(tag)
        if piece.isWrite {
            writesInFlight -= 1
            if piece.isEdge { edgeInFlight = false }
        }
        piece.session.ended(piece, outcome)
    }

    /// Begins what waits, as far as it goes; true if that was any.
    private func beginWaiting() -> Bool {
        var hasBegun = false
        while let first = waiting.first, tryBegin(first) {
            waiting.removeFirst()
            hasBegun = true
        }
        return hasBegun
    }

    private static func outcome(of outcome: BlockOutcome) -> NBDError {
        switch outcome {
        case .okay: .none
        case .failed: .io
        case .unsupported: .unsupported
        // The first queue is never displaced.
        case .lost, .displaced: .shutDown
        }
    }

    // MARK: Sleep

    func prepareToSpin() { arm() }

    func prepareToSleep() -> Bool {
        guard queue.armWakeUp() else { return true }
        arm()
        if !waits.hasRecheck, queue.inFlight > 0, let place {
            waits.hasRecheck = true
            reactor.after(microseconds: Self.recheckMicroseconds, place, tag: Waits.Tag.recheck)
        }
        return false
    }

    private func arm() {
        guard let place else { return }
        let (doorbell, control) = queue.wakeDescriptors
        if !waits.isOnControl {
            waits.isOnControl = true
            reactor.whenReadable(control, place, tag: Waits.Tag.control)
        }
        guard waits.doorbell !== doorbell else { return }
        if waits.doorbell != nil { reactor.cancelWait(place, tag: waits.doorbellTag) }
        waits.doorbell = doorbell
        waits.doorbellTag = waits.doorbellTag == UInt32(UInt16.max) ? 2 : waits.doorbellTag + 1
        if let doorbell { reactor.whenReadable(doorbell, place, tag: waits.doorbellTag) }
    }

    func completed(tag: UInt32, result: Int32) {
        switch tag {
        case Waits.Tag.control: waits.isOnControl = false
        case Waits.Tag.recheck:
            waits.hasRecheck = false
            if queue.recheck() { queue.kick() }
        case waits.doorbellTag:
            waits.doorbell = nil
            waits.hasRung = true
        default: break
        }
    }
}

/// Pieces in the order in which they came.
struct PieceLine {
    private var pieces: [Piece] = []
    private var head = 0

    var isEmpty: Bool { head == pieces.count }
    var first: Piece? { isEmpty ? nil : pieces[head] }

    mutating func append(_ piece: Piece) { pieces.append(piece) }

    mutating func removeFirst() {
        head += 1
        if head == pieces.count {
            pieces.removeAll(keepingCapacity: true)
            head = 0
        } else if head > 256 {
            pieces.removeFirst(head)
            head = 0
        }
    }
}
