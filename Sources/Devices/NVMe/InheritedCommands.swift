// What became of the commands that a predecessor of this process had given to a controller and not taken back. Whoever
// asks the same again, of the same memory, need not have it done again: the controller has.

import DMA
import SharedMemory
import Synchronization

/// What a command asks for, without the places that a driver chose for itself: two commands that are equal here do the
/// same, so that either's end is the other's.
struct CommandIdentity: Hashable {
    private var words: [UInt64]

    /// - Parameters:
    ///   - blockShift: bytes of a block, as a power of two.
    ///   - list: where in `region` the command's own page is, which has its page list or its range.
    ///   - address: the same page, on the bus.
    init(_ command: NVMeCommand, blockShift: UInt64, list: Int, at address: DeviceAddress, in region: SharedRegion) {
        words = [command.head & ~0xFFFF_0000, command.words10, command.words12]
        if command.prp1 == address {
            // A range: two words.
            words += [0, region.load(list), region.load(list + 8)]
        } else if command.prp2 == address {
            let bytes = ((command.words12 & 0xFFFF) + 1) << blockShift
            let pages = (command.prp1.rawValue & (PageList.page - 1) + bytes + PageList.page - 1) / PageList.page
            words.append(command.prp1.rawValue)
            for entry in 0..<max(0, min(Int(pages) - 1, QueueRings.page / 8)) { words.append(region.load(list + entry * 8)) }
        } else {
            words += [command.prp1.rawValue, command.prp2.rawValue]
        }
    }
}

/// Commands that have ended, and how. Any thread.
final class InheritedCommands: Sendable {
    private let ended: Mutex<[CommandIdentity: [NVMeStatus]]>

    init(_ commands: [(CommandIdentity, NVMeStatus)]) {
        ended = Mutex(Dictionary(grouping: commands, by: \.0).mapValues { $0.map(\.1) })
    }

    /// How one such command has ended; each counts once. nil: there is none, or one that may end better another time.
    func take(_ identity: CommandIdentity) -> NVMeStatus? {
        ended.withLock { ended in
            guard let status = ended[identity]?.popLast() else { return nil }
            return status.mayRetry ? nil : status
        }
    }

    /// How many nobody has asked for again.
    var count: Int { ended.withLock { $0.values.reduce(0) { $0 + $1.count } } }
}
