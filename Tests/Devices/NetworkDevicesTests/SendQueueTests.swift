import LinuxSystem
import NetworkDevices
import Testing

/// Every frame ends once, in order, whatever the device says of it: with no ring, no page and no device.
struct SendQueueTests {
    /// A sender whose device does as it was told, frame by frame.
    private struct ScriptedSender: FrameSender {
        /// What the device says of each frame that it is given, or lets wait, in order; when there is no more, all are
        /// sent.
        var script: [FrameSent]
        /// Whether frames wait for a flush.
        var isBatched = false
        /// Frames that fit before a flush.
        var room = Int.max
        /// Frames that are not for the device.
        var passes: Set<Int> = []
        private var waiting: [Int] = []
        private(set) var sent: [Int] = []
        private(set) var ended: [Int] = []
        private(set) var outcomes: [FrameSent?] = []
        private(set) var places: [Int] = []
        private(set) var flushes = 0

        init(_ script: [FrameSent] = []) { self.script = script }

        private mutating func said() -> FrameSent { script.isEmpty ? .sent : script.removeFirst() }

        mutating func send(_ frame: borrowing Int) -> FrameSent? {
            if passes.contains(frame) { return nil }
            if isBatched {
                if waiting.count == room { return .full }
                waiting.append(copy frame)
                return .waiting
            }
            let outcome = said()
            if outcome == .sent { sent.append(copy frame) }
            return outcome
        }

        mutating func flush(_ ended: inout [FrameSent]) {
            flushes += 1
            var isFull = false
            for frame in waiting {
                let outcome = isFull ? .full : said()
                if outcome == .sent { sent.append(frame) }
                isFull = outcome == .full
                ended.append(outcome)
            }
            waiting = []
        }

        mutating func settle(_ frame: borrowing Int, at place: Int, _ outcome: FrameSent?) {
            ended.append(copy frame)
            outcomes.append(outcome)
            places.append(place)
        }
    }

    private func queue(_ count: Int) -> SendQueue<Int> {
        var queue = SendQueue<Int>()
        for frame in 0..<count { queue.append(frame) }
        return queue
    }

    @Test(arguments: [false, true])
    func allAreTaken(_ isBatched: Bool) {
        var (queue, sender) = (queue(5), ScriptedSender())
        sender.isBatched = isBatched
        queue.sendAll(through: &sender)
        #expect(sender.sent == [0, 1, 2, 3, 4] && sender.ended == sender.sent && sender.flushes == 1)
        #expect(sender.outcomes == Array(repeating: .sent, count: 5))
        #expect(queue.isEmpty && queue.count == 0 && !queue.isBlocked)
    }

    /// The device is full in the middle: what came before is settled, the rest keeps its place and is sent when there
    /// is room.
    @Test(arguments: [false, true])
    func whatCameBeforeTheOneWithoutRoomIsSettled(_ isBatched: Bool) {
        var (queue, sender) = (queue(4), ScriptedSender([.sent, .failed(.ioError), .full]))
        sender.isBatched = isBatched
        queue.sendAll(through: &sender)
        #expect(queue.isBlocked && queue.count == 4 && !queue.isEmpty)
        #expect(sender.ended == [0, 1] && sender.outcomes == [.sent, .failed(.ioError)] && sender.sent == [0])
        queue.sendAll(through: &sender)
        #expect(sender.ended == [0, 1, 2, 3] && sender.places == [0, 1, 2, 3] && sender.sent == [0, 2, 3])
        #expect(queue.isEmpty && !queue.isBlocked)
    }

    /// A device that still has no room costs nothing and changes nothing.
    @Test func fullAgainAndAgain() {
        var (queue, sender) = (queue(2), ScriptedSender([.full, .full, .full]))
        for _ in 0..<3 {
            queue.sendAll(through: &sender)
            #expect(queue.isBlocked && sender.ended.isEmpty && queue[0] == 0 && queue[1] == 1)
        }
        queue.sendAll(through: &sender)
        #expect(sender.ended == [0, 1] && queue.isEmpty)
    }

    /// A full batch is not a full device: it is flushed, and the next is begun.
    @Test func batchesFollowEachOther() {
        var (queue, sender) = (queue(10), ScriptedSender())
        (sender.isBatched, sender.room) = (true, 4)
        queue.sendAll(through: &sender)
        #expect(sender.sent == Array(0..<10) && sender.ended == sender.sent && sender.flushes == 3 && !queue.isBlocked)
    }

    /// One that was refused behind the one without room is not given again, and ends in its turn.
    @Test func whatIsNotForTheDeviceEndsInItsTurn() {
        var (queue, sender) = (queue(5), ScriptedSender([.full]))
        sender.isBatched = true
        sender.passes = [0, 2]
        queue.sendAll(through: &sender)
        #expect(queue.isBlocked && sender.ended == [0] && sender.outcomes == [nil])
        queue.sendAll(through: &sender)
        #expect(sender.ended == [0, 1, 2, 3, 4] && sender.outcomes == [nil, .sent, nil, .sent, .sent])
        #expect(sender.sent == [1, 3, 4])
    }

    /// Frames may be changed, and added to, while the queue is blocked.
    @Test func moreComeWhileItIsBlocked() {
        var (queue, sender) = (queue(2), ScriptedSender([.sent, .full]))
        queue.sendAll(through: &sender)
        queue.append(2)
        queue[1] = 7
        #expect(queue.count == 3)
        queue.sendAll(through: &sender)
        #expect(sender.ended == [0, 7, 2] && sender.places == [0, 1, 2] && queue.isEmpty)
    }

    /// Any script: frames are sent at most once and in order, each ends once and in order, and a refusal is final.
    @Test func anyDevice() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<2000 {
            let count = Int.random(in: 0...12, using: &random)
            let script = (0..<Int.random(in: 0...30, using: &random)).map { _ -> FrameSent in
                [.sent, .sent, .failed(.ioError), .full].randomElement(using: &random) ?? .sent
            }
            var (queue, sender) = (queue(count), ScriptedSender(script))
            sender.isBatched = Bool.random(using: &random)
            sender.room = Int.random(in: 1...6, using: &random)
            sender.passes = Set((0..<count).filter { _ in Int.random(in: 0..<6, using: &random) == 0 })
            var turns = 0
            repeat {
                queue.sendAll(through: &sender)
                turns += 1
                #expect(queue.isBlocked != queue.isEmpty && sender.ended == Array(0..<sender.ended.count), "\(script)")
            } while queue.isBlocked && turns < 100
            #expect(sender.ended == Array(0..<count) && sender.places == sender.ended, "\(script)")
            let isSent = (0..<count).filter { sender.outcomes[$0] == .sent }
            #expect(sender.sent == isSent && (0..<count).allSatisfy { sender.passes.contains($0) == (sender.outcomes[$0] == nil) })
            // As often as the script says: no frame's refusal is forgotten, none is counted twice.
            let refused = script.dropLast(sender.script.count).count { $0 == .failed(.ioError) }
            #expect(sender.outcomes.count { $0 == .failed(.ioError) } == refused)
        }
    }
}
