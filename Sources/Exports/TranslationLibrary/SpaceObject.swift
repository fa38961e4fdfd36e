// What a space's handle stands for, and how its calls are answered: each refusal leaves its words.

import CCausewayTranslation
import DMA
import FrameMaps
import Glibc
import HostIommu
import LinuxSystem
import SharedMemory
import Synchronization

final class SpaceObject: Sendable {
    let space: DeviceSpace
    let device: Descriptor?
    let group: (@Sendable (String) throws(DMABackEndError) -> Descriptor)?
    private let words = Mutex<String?>(nil)
    private let untold = Mutex<[DMAFault]>([])

    init(_ opened: DeviceSpace.Opened) {
        space = opened.space
        device = opened.device
        group = opened.group
    }

    /// The last refusal's words.
    var lastRefusal: String? { words.withLock { $0 } }
    func keep(_ refusal: String) { words.withLock { $0 = refusal } }

    /// The next fault, as C has it. Throws ENOENT if there is none.
    func nextFault() throws(ErrorNumber) -> causeway_fault {
        let fault = untold.withLock { untold -> DMAFault? in
            if untold.isEmpty { untold = space.takeFaults().recent }
            return untold.isEmpty ? nil : untold.removeFirst()
        }
        guard let fault else { throw ErrorNumber(ENOENT) }
        let cause: UInt32 =
            switch fault.cause {
            case .notMapped: CAUSEWAY_FAULT_NOT_MAPPED
            case .readDenied: CAUSEWAY_FAULT_READ_DENIED
            case .writeDenied: CAUSEWAY_FAULT_WRITE_DENIED
            case .noMemory: CAUSEWAY_FAULT_NO_MEMORY
            case .deviceError: CAUSEWAY_FAULT_REPORTED
            }
        return causeway_fault(iova: fault.iova?.rawValue ?? 0, cause: cause, reserved: 0)
    }
}

/// Runs a call's body with the space; what is thrown leaves its words with it.
@safe
func answering(_ space: OpaquePointer?, _ body: (SpaceObject) throws -> Void) -> Int32 {
    guard let here = known(space, SpaceObject.self) else { return -EINVAL }
    return answering {
        do { try body(here) } catch {
            here.keep("\(error)")
            throw error
        }
    }
}

/// Which way a device that has these permissions moves data.
func direction(permissions bits: UInt32) throws(Refusal) -> DMADirection {
    switch bits {
    case CAUSEWAY_READ: .toDevice
    case CAUSEWAY_WRITE: .fromDevice
    case CAUSEWAY_READ | CAUSEWAY_WRITE: .bidirectional
    default: throw Refusal(EINVAL, "permissions 0x\(String(bits, radix: 16)): CAUSEWAY_READ, CAUSEWAY_WRITE or both")
    }
}

/// Whole pages of a caller's memory.
///
/// SAFETY: the caller keeps the memory mapped until it is taken back, as the header says; nothing is read, written or
/// unmapped here, only told to the kernel.
@safe
func lentPages(_ memory: UnsafeMutableRawPointer?, _ byteCount: UInt64, writable: Bool) throws(Refusal) -> SharedRegion {
    let address = UInt64(UInt(bitPattern: memory))
    guard let memory = unsafe memory, address & 4095 == 0, byteCount > 0, byteCount & 4095 == 0, address < processLimit,
        byteCount <= processLimit - address
    else {
        throw Refusal(EINVAL, "\(byteCount) bytes at 0x\(String(address, radix: 16)): whole pages of 4096 bytes of this process")
    }
    return unsafe SharedRegion(adopting: memory, byteCount: Int(byteCount), writable: writable) { _, _ in }
}

/// One past the addresses of a process's memory, with 48 bits of them.
let processLimit: UInt64 = 1 << 47

/// A descriptor for the caller to close.
func handedOut(_ descriptor: Descriptor) throws(Errno) -> Int32 {
    try retryingInterrupts { fcntl(descriptor.rawValue, F_DUPFD_CLOEXEC, 0) }
}
