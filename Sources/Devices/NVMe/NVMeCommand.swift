// A submission queue entry, as eight words of 64 bits (NVMe base specification, "Submission Queue Entry").

import DMA

/// One command, 64 bytes.
struct NVMeCommand: BitwiseCopyable, Equatable {
    /// Opcode 7:0, command identifier 31:16; the namespace above.
    var head: UInt64 = 0
    var reserved: UInt64 = 0
    var metadata: UInt64 = 0
    /// Where its data is: first page and second page, or list.
    var prp1 = DeviceAddress.none
    var prp2 = DeviceAddress.none
    /// Command dwords 10 and 11, 12 and 13, 14 and 15.
    var words10: UInt64 = 0
    var words12: UInt64 = 0
    var words14: UInt64 = 0

    init() {}

    init(_ opcode: UInt8, namespace: UInt32 = 0) { head = UInt64(opcode) | UInt64(namespace) << 32 }

    /// The command identifier.
    var identifier: UInt16 {
        get { UInt16(truncatingIfNeeded: head >> 16) }
        set { head = head & ~0xFFFF_0000 | UInt64(newValue) << 16 }
    }
    var opcode: UInt8 { UInt8(truncatingIfNeeded: head) }
    var namespace: UInt32 { UInt32(truncatingIfNeeded: head >> 32) }
}

/// Of the NVM command set.
extension NVMeCommand {
    /// The most blocks that a read, a write or a range of zeroes can name.
    static let mostBlocks: UInt64 = 65536

    /// A read or a write; the count on the wire is one less.
    static func transfer(write: Bool, namespace: UInt32, block: UInt64, count: UInt64, isForced: Bool = false) -> NVMeCommand {
        var command = NVMeCommand(write ? 1 : 2, namespace: namespace)
        command.words10 = block
        command.words12 = (count - 1) | (isForced ? 1 << 30 : 0)
        return command
    }

    /// All that was written before is durable when it is done.
    static func flush(namespace: UInt32) -> NVMeCommand { NVMeCommand(0, namespace: namespace) }

    /// Makes blocks zero; `mayDeallocate`: they need not keep their room.
    static func writeZeroes(namespace: UInt32, block: UInt64, count: UInt64, mayDeallocate: Bool) -> NVMeCommand {
        var command = NVMeCommand(8, namespace: namespace)
        command.words10 = block
        command.words12 = (count - 1) | (mayDeallocate ? 1 << 25 : 0)
        return command
    }

    /// Deallocates one range, which stands at `range`: 16 bytes.
    static func deallocate(namespace: UInt32, range: DeviceAddress) -> NVMeCommand {
        var command = NVMeCommand(9, namespace: namespace)
        command.prp1 = range
        command.words10 = 4 << 32
        return command
    }
}

/// Of the admin command set.
extension NVMeCommand {
    /// What `Identify` asks for.
    enum Identify: UInt64 {
        case namespace = 0
        case controller = 1
        case activeNamespaces = 2
    }

    static func identify(_ what: Identify, namespace: UInt32 = 0, into page: DeviceAddress) -> NVMeCommand {
        var command = NVMeCommand(6, namespace: namespace)
        command.prp1 = page
        command.words10 = what.rawValue
        return command
    }

    /// Asks for so many pairs of queues.
    static func setQueueCount(_ count: Int) -> NVMeCommand {
        var command = NVMeCommand(9)
        let wanted = UInt64(count - 1)
        command.words10 = 7 | (wanted << 16 | wanted) << 32
        return command
    }

    static func createCompletionQueue(_ queue: Int, entries: Int, vector: Int, at page: DeviceAddress) -> NVMeCommand {
        var command = NVMeCommand(5)
        command.prp1 = page
        // Contiguous, and with interrupts.
        command.words10 = UInt64(entries - 1) << 16 | UInt64(queue) | (UInt64(vector) << 16 | 3) << 32
        return command
    }

    static func createSubmissionQueue(_ queue: Int, entries: Int, at page: DeviceAddress) -> NVMeCommand {
        var command = NVMeCommand(1)
        command.prp1 = page
        command.words10 = UInt64(entries - 1) << 16 | UInt64(queue) | (UInt64(queue) << 16 | 1) << 32
        return command
    }

    static func deleteQueue(_ queue: Int, isSubmission: Bool) -> NVMeCommand {
        var command = NVMeCommand(isSubmission ? 0 : 4)
        command.words10 = UInt64(queue)
        return command
    }

    static func abort(_ identifier: UInt16, queue: Int) -> NVMeCommand {
        var command = NVMeCommand(8)
        command.words10 = UInt64(identifier) << 16 | UInt64(queue)
        return command
    }
}
