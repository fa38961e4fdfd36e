// A controller's registers (NVMe base specification, "Controller Properties"): 32 bits each, the longer ones in two.

/// Where each register is, and what its bits are.
enum NVMeRegister {
    static let capabilities = 0x00
    static let version = 0x08
    static let configuration = 0x14
    static let status = 0x1C
    static let adminQueues = 0x24
    static let adminSubmission = 0x28
    static let adminCompletion = 0x30
    static let doorbells = 0x1000

    /// What a register reads as when its device is gone.
    static let gone = UInt32.max

    enum Configuration {
        static let enable: UInt32 = 1
        /// Entries of 2^6 and 2^4 bytes; pages of 4 KiB, the NVM command set and round robin are zeroes.
        static let entrySizes: UInt32 = 6 << 16 | 4 << 20
        static let shutdownMask: UInt32 = 3 << 14
        static let shutdownNormal: UInt32 = 1 << 14
    }

    enum Status {
        static let ready: UInt32 = 1
        static let fatal: UInt32 = 2
        static let shutdownMask: UInt32 = 3 << 2
        static let shutdownComplete: UInt32 = 2 << 2
    }
}

/// What a controller says of itself before it is enabled (CAP).
struct NVMeCapabilities: Equatable {
    let rawValue: UInt64

    /// The most entries of a queue.
    var queueEntries: Int { Int(rawValue & 0xFFFF) + 1 }
    /// How long becoming ready, or stopping, may take.
    var readyMilliseconds: Int { max(1, Int(rawValue >> 24 & 0xFF)) * 500 }
    /// Bytes from one doorbell to the next.
    var doorbellStride: Int { 4 << Int(rawValue >> 32 & 0xF) }
    /// Whether it has the NVM command set.
    var hasNVM: Bool { rawValue >> 37 & 1 == 1 }
    /// The smallest page, as a power of two above 4 KiB.
    var smallestPage: Int { Int(rawValue >> 48 & 0xF) }

    /// Of a queue's two, where the tail of what is submitted is told.
    func submissionDoorbell(_ queue: Int) -> Int { NVMeRegister.doorbells + 2 * queue * doorbellStride }
    /// Of a queue's two, where the head of what was completed is told.
    func completionDoorbell(_ queue: Int) -> Int { NVMeRegister.doorbells + (2 * queue + 1) * doorbellStride }
}

extension NVMePort {
    /// A register of 64 bits, low half first.
    func load64(_ offset: Int) -> UInt64 { UInt64(load(offset)) | UInt64(load(offset + 4)) << 32 }

    /// A register of 64 bits, low half first.
    func store64(_ value: UInt64, at offset: Int) {
        store(UInt32(truncatingIfNeeded: value), at: offset)
        store(UInt32(truncatingIfNeeded: value >> 32), at: offset + 4)
    }
}
