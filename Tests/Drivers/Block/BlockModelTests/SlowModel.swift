// What a disk's requests mean, said slowly: all requests ever taken in a list, and rules that are tried on all of them
// until none applies.

import BlockDevices
import BlockModel

struct SlowModel {
    struct Request {
        var asked: Asked
        /// What is still to be done, first the next.
        var left: [DeviceOperation]
        var isAtDisk = false
        var outcome: WorkOutcome?
        /// Stages begun so far.
        var begun = 0
    }

    let capacity: Int
    var asked: [Asked] = []
    var taken: [Request] = []
    var withdrawn: OptionalOperations = []
    /// What the disk ends at once: the request's number and how many of its stages had begun.
    var immediate: (Int, Int) -> DeviceResult?

    /// A request's stages.
    static func stages(_ asked: Asked) -> [DeviceOperation] {
        let work = asked.work
        let own = ([work.operation] + asked.more).filter { !$0.isOfNothing }
        switch work.ordering {
        case .none: return own
        case .flushFirst: return work.operation == .flush ? [.flush] : [.flush] + own
        case .barrier:
            if work.operation == .flush { return [.flush] }
            if case .write(_, isDurable: true) = work.operation { return [.flush] + own }
            return [.flush] + own + [.flush]
        }
    }

    /// Applies rules until none applies.
    mutating func settle() {
        while take() || begin() {}
    }

    /// A request is taken if there is room, and no barrier is in work.
    private mutating func take() -> Bool {
        let inWork = taken.filter { $0.outcome == nil }
        guard let next = asked.first, inWork.count < capacity, !inWork.contains(where: { $0.asked.work.ordering == .barrier })
        else {
            return false
        }
        asked.removeFirst()
        var request = Request(asked: next, left: Self.stages(next))
        if next.isNonsense || next.reach == .never { request.outcome = .failed }
        taken.append(request)
        return true
    }

    /// The next stage of a request begins once the one before has ended; the first of a barrier when nothing before it
    /// is in work.
    private mutating func begin() -> Bool {
        for index in taken.indices where taken[index].outcome == nil && !taken[index].isAtDisk {
            let isBarrier = taken[index].asked.work.ordering == .barrier
            if isBarrier, taken[..<index].contains(where: { $0.outcome == nil }) { continue }
            guard let operation = taken[index].left.first else {
                taken[index].outcome = .done
                return true
            }
            if taken[index].asked.reach == .notByTheDisk, operation.movesData {
                taken[index].outcome = .failed
                return true
            }
            taken[index].isAtDisk = true
            taken[index].begun += 1
            if let result = immediate(taken[index].asked.id, taken[index].begun) { end(index, result) }
            return true
        }
        return false
    }

    /// The disk ended the stage of request `index` that it has.
    mutating func end(_ index: Int, _ result: DeviceResult) {
        taken[index].isAtDisk = false
        switch result {
        case .done: taken[index].left.removeFirst()
        case .failed(let error):
            taken[index].outcome = error.isUnsupported ? .unsupported : .failed
            if error.isUnsupported {
                switch (taken[index].asked.work.operation, taken[index].left.first) {
                case (.discard, _): withdrawn.insert(.discard)
                case (_, .writeZeroes): withdrawn.insert(.zeroes)
                default: withdrawn.insert(.flush)
                }
            }
        }
    }
}

extension DeviceOperation {
    var movesData: Bool {
        switch self {
        case .read, .write: true
        case .flush, .discard, .writeZeroes: false
        }
    }

    /// Whether it is a range of no bytes.
    var isOfNothing: Bool {
        switch self {
        case .discard(_, let count, _), .writeZeroes(_, let count, _): count == 0
        case .read, .write, .flush: false
        }
    }
}
