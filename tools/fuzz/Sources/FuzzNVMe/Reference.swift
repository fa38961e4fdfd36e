// What a command must be, from its request: piece by piece, and slowly.

import BlockDevices
import DMA
import FuzzSupport

@testable import NVMe
@testable import NVMeModel

/// One request as it was asked.
struct AskedRequest {
    let operation: DeviceOperation
    /// Its data, as the controller finds it.
    let segments: [DeviceSegment]
    let byteCount: UInt64
    /// Bytes of the disk that commands were made for.
    var issued: UInt64 = 0
    /// Commands that have ended for good, and whether all of them well.
    var isGood = true
    var commands = 0

    /// Whether the `count` bytes of the data from `place` on are at `address`, all of them.
    func isThere(_ place: UInt64, _ count: UInt64, at address: UInt64) -> Bool {
        var (start, found) = (UInt64(0), UInt64(0))
        for segment in segments {
            let end = start + UInt64(segment.byteCount)
            let (from, to) = (max(start, place), min(end, place + count))
            if from < to {
                guard segment.address.rawValue + (from - start) == address + (from - place) else { return false }
                found += to - from
            }
            start = end
        }
        return found == count
    }
}

/// A disk's size, and what a command may be.
struct Rules {
    let namespace: UInt32
    let shift: UInt64
    let mostBytes: UInt64

    /// Holds a new command against its request.
    /// - Parameter read: memory as the controller reads it.
    func check(_ command: ModelCommand, _ asked: inout AskedRequest, _ read: (UInt64, Int) -> [UInt8]) {
        require(command.namespace == namespace, "namespace \(command.namespace)")
        func isRange(_ offset: UInt64, _ block: UInt64, _ count: UInt64, of total: UInt64) {
            require(block == (offset + asked.issued) >> shift, "block \(block) of \(asked.operation), \(asked.issued) issued")
            asked.issued += count << shift
            require(count > 0 && asked.issued <= total, "\(count) blocks of \(asked.operation)")
        }
        func number(_ bytes: [UInt8], _ start: Int, _ count: Int) -> UInt64 {
            (0..<count).reduce(0) { $0 | UInt64(bytes[start + $1]) << UInt64($1 * 8) }
        }
        switch asked.operation {
        case .read(let offset):
            require(command.opcode == 2 && !command.isForced, "\(command) for a read")
            let start = asked.issued
            isRange(offset, command.block, UInt64(command.count), of: asked.byteCount)
            data(command, asked, from: start, read)
        case .write(let offset, let isDurable):
            require(command.opcode == 1 && command.isForced == isDurable, "\(command) for a write")
            let start = asked.issued
            isRange(offset, command.block, UInt64(command.count), of: asked.byteCount)
            data(command, asked, from: start, read)
        case .flush:
            require(command.opcode == 0 && asked.commands == 0, "\(command) for a flush")
        case .discard(let offset, let total, _):
            require(command.opcode == 9 && command.words[0] == 0 && command.words[1] == 4, "\(command) for a discard")
            let range = read(command.prp1, 16)
            isRange(offset, number(range, 8, 8), number(range, 4, 4), of: total)
        case .writeZeroes(let offset, let total, let mayUnmap):
            require(command.opcode == 8 && (command.words[2] >> 25 & 1 == 1) == mayUnmap, "\(command) for zeroes")
            isRange(offset, command.block, UInt64(command.count), of: total)
        }
        asked.commands += 1
    }

    /// The page list leads to just the bytes that are meant.
    private func data(_ command: ModelCommand, _ asked: AskedRequest, from start: UInt64, _ read: (UInt64, Int) -> [UInt8]) {
        let total = UInt64(command.count) << shift
        require(total <= mostBytes, "\(total) bytes in a command")
        require(command.prp1 & 3 == 0, "PRP1 \(command.prp1)")
        var (place, entry) = (UInt64(0), 0)
        while place < total {
            var address = command.prp1
            let left = total - place
            if entry == 1, left <= 4096 {
                address = command.prp2
            } else if entry > 0 {
                require(entry <= 512 && command.prp2 & 7 == 0, "a list of \(entry) entries at \(command.prp2)")
                address = read(command.prp2 + UInt64(entry - 1) * 8, 8).enumerated().reduce(0) {
                    $0 | UInt64($1.element) << UInt64($1.offset * 8)
                }
            }
            require(entry == 0 || address & 4095 == 0, "page \(entry) at \(address)")
            let count = min(left, 4096 - address & 4095)
            require(asked.isThere(start + place, count, at: address), "\(count) bytes of \(place) at \(address)")
            place += count
            entry += 1
        }
    }
}
