// Frames on their way to a device queue, oldest first: what every driver does that sends. Pure: it knows no ring, no
// page and no device, only what the device said of each frame.
//
// A round gives the device as many frames as it takes, flushes, and settles: each frame ends once, in order, whatever
// the device did with those behind it. Where it had no room the round ends: what came before that frame is settled, and
// that frame and all behind it are given again, by the next round or, if the device is full, once it has room. A frame
// that was refused is gone, and is not given again.

/// Who sends the frames of a `SendQueue`, and is told how each ended.
public protocol FrameSender: ~Copyable {
    /// What a frame is to it.
    associatedtype Frame
    /// Gives one frame to the device, as its `send` does; nil: nothing of it is for the device, and it only waits for
    /// its turn to end.
    mutating func send(_ frame: borrowing Frame) -> FrameSent?
    /// Sends the frames that wait, as the device's `flush` does.
    mutating func flush(_ ended: inout [FrameSent])
    /// A frame has ended, all before it have.
    /// - Parameters:
    ///   - place: its number in the queue.
    ///   - outcome: `.sent` or `.failed`; nil for one that the device was not given.
    mutating func settle(_ frame: borrowing Frame, at place: Int, _ outcome: FrameSent?)
}

/// The frames; used again and again, so that nothing is allocated.
public struct SendQueue<Frame> {
    @usableFromInline
    enum Progress {
        /// It has not been given to the device, or found no room.
        case new
        /// It is not for the device.
        case passed
        /// What the device said last.
        case given(FrameSent)
    }

    @usableFromInline
    struct Entry {
        @usableFromInline var frame: Frame
        @usableFromInline var progress = Progress.new

        @inlinable init(_ frame: Frame) { self.frame = frame }
    }

    @usableFromInline var entries: [Entry] = []
    /// Those before it have ended.
    @usableFromInline var first = 0
    /// How those ended that waited in the device.
    @usableFromInline var ended: [FrameSent] = []
    @usableFromInline var isDeviceFull = false

    /// Whether the device has no room for the first that has not ended.
    @inlinable public var isBlocked: Bool { isDeviceFull }

    /// An empty queue.
    @inlinable public init() {}

    /// Frames since the queue was empty, those included that have ended since; the number of the next.
    @inlinable public var count: Int { entries.count }
    /// Whether all have ended.
    @inlinable public var isEmpty: Bool { entries.isEmpty }

    /// The frame with this number.
    @inlinable
    public subscript(_ place: Int) -> Frame {
        @inline(__always) get { entries[place].frame }
        @inline(__always) _modify { yield &entries[place].frame }
    }

    /// One more, behind all others.
    @inlinable
    @inline(__always)
    public mutating func append(_ frame: Frame) { entries.append(Entry(frame)) }

    /// Sends what is there, in order, until the device is full. Afterwards the queue is empty, or blocked: then its
    /// frames keep their numbers.
    @inlinable
    public mutating func sendAll<Sender: FrameSender & ~Copyable>(through sender: inout Sender) where Sender.Frame == Frame {
        isDeviceFull = false
        while first < entries.count, !isDeviceFull {
            let end = give(through: &sender)
            ended.removeAll(keepingCapacity: true)
            sender.flush(&ended)
            settle(until: end, through: &sender)
        }
        guard !isDeviceFull else { return }
        entries.removeAll(keepingCapacity: true)
        first = 0
    }

    /// Gives the device as many as it takes; the first that it did not take. If that has no room though none waits, the
    /// device is full.
    @inlinable
    @inline(__always)
    mutating func give<Sender: FrameSender & ~Copyable>(through sender: inout Sender) -> Int where Sender.Frame == Frame {
        var isFull = true
        for place in first..<entries.count {
            // One that was refused is not given again.
            guard case .new = entries[place].progress else { continue }
            guard let outcome = sender.send(entries[place].frame) else {
                entries[place].progress = .passed
                continue
            }
            switch outcome {
            case .full:
                isDeviceFull = isFull
                return place
            case .waiting: isFull = false
            case .sent, .failed: break
            }
            entries[place].progress = .given(outcome)
        }
        return entries.count
    }

    /// Ends those before `end` that the device is done with, each once.
    @inlinable
    @inline(__always)
    mutating func settle<Sender: FrameSender & ~Copyable>(
        until end: Int, through sender: inout Sender
    ) where Sender.Frame == Frame {
        var next = 0
        while first < end {
            var outcome: FrameSent?
            switch entries[first].progress {
            case .new, .passed: break
            case .given(.waiting):
                if case .full = ended[next] { return block(until: end) }
                outcome = ended[next]
                next += 1
            case .given(let said): outcome = said
            }
            sender.settle(entries[first].frame, at: first, outcome)
            first += 1
        }
    }

    /// There was no room for the first, and none behind it that waited was sent.
    @usableFromInline
    mutating func block(until end: Int) {
        isDeviceFull = true
        for place in first..<end {
            if case .given(.waiting) = entries[place].progress { entries[place].progress = .new }
        }
    }
}
