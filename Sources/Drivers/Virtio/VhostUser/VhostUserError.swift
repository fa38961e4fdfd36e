// What is wrong with what a front end sent, in words.

import LinuxSystem
import VirtioRing

/// A front end's mistake, or a limit that it met.
public enum VhostUserError: Error, Equatable, CustomStringConvertible {
    /// The header's version is not 1, or a reply came where a request was due.
    case badHeader(flags: UInt32)
    /// No message of ours, or one that was not negotiated.
    case unknownRequest(UInt32)
    /// The payload is not as long as the message needs.
    case badLength(VhostRequest, byteCount: Int)
    /// A payload that no message has.
    case tooLong(byteCount: UInt32)
    /// Descriptors that the message does not have, or too few.
    case badDescriptors(VhostRequest, count: Int)
    /// Descriptors in the middle of a message, or more than one can have.
    case strayDescriptors
    /// A ring beyond those that there are.
    case noSuchRing(UInt32)
    /// A ring's size that is 0 or beyond the limit.
    case badRingSize(UInt32)
    /// The ring is running, and this can be changed only while it is not.
    case ringIsRunning(Int)
    /// A ring that cannot be where it is said to be.
    case badRing(Int, VirtqueueError)
    /// A region that wraps, is empty, or overlaps another.
    case badRegion(guest: UInt64, byteCount: UInt64)
    /// More regions than there is room for.
    case tooManyRegions
    /// A region to be removed that there is not.
    case noSuchRegion(guest: UInt64)
    /// Memory that its owner could make shorter while it is mapped here.
    case mayShrink(guest: UInt64)
    /// A descriptor that is to ring and is no eventfd.
    case noEvent(VhostRequest)
    /// A file shorter than what it is said to hold.
    case shortFile(byteCount: UInt64, needed: UInt64)
    /// The system refused the memory.
    case cannotMap(Errno)
    /// In-flight memory for rings that there are not, or too small.
    case badInflight(queues: UInt16, queueSize: UInt16)
    /// A log that is empty, askew or larger than any window.
    case badLog(byteCount: UInt64, offset: UInt64)
    /// A log that its owner could make shorter.
    case logMayShrink
    /// A log without bits for some of the memory that is to be logged.
    case shortLog(pages: UInt64, guest: UInt64)
    /// A range of IO addresses that cannot be.
    case badTranslation(TranslationError)
    /// A range of IO addresses that is none of the shared memory.
    case translationOutside(user: UInt64, byteCount: UInt64)
    /// Something that only this side says of IO addresses.
    case notATranslation(UInt8)
    /// A ring whose pages lie apart, so that a log of it cannot be kept.
    case scatteredRing(Int)
    /// Features that were not offered.
    case notOffered(UInt64)
    /// Features that others have to come with.
    case lacking(VhostProtocolFeatures)
    /// A part of the configuration space that there is not, or that cannot be written.
    case badConfiguration(offset: UInt32, byteCount: UInt32)

    /// One sentence.
    public var description: String {
        switch self {
        case .badHeader(let flags): "a message whose flags are 0x\(String(flags, radix: 16))"
        case .unknownRequest(let code): "message \(code) is not known here"
        case .badLength(let request, let count): "\(request) with a payload of \(count) bytes"
        case .tooLong(let count): "a payload of \(count) bytes, \(VhostLimits.payloadBytes) at most"
        case .badDescriptors(let request, let count): "\(request) with \(count) descriptors"
        case .strayDescriptors: "descriptors that belong to no message"
        case .noSuchRing(let ring): "there is no ring \(ring)"
        case .badRingSize(let size): "a ring cannot have \(size) entries"
        case .ringIsRunning(let ring): "ring \(ring) is running"
        case .badRing(let ring, let error): "ring \(ring): \(error)"
        case .badRegion(let guest, let count):
            "a region of \(count) bytes at 0x\(String(guest, radix: 16)) is empty, too large, wraps, or overlaps another"
        case .tooManyRegions: "more than \(VhostLimits.regions) regions of memory"
        case .noSuchRegion(let guest): "there is no region at 0x\(String(guest, radix: 16))"
        case .mayShrink(let guest):
            "the memory at 0x\(String(guest, radix: 16)) could be made shorter; it has to be sealed (F_SEAL_SHRINK), as QEMU's "
                + "memory-backend-memfd is"
        case .noEvent(let request): "\(request) with a descriptor that is no eventfd"
        case .shortFile(let count, let needed): "a file of \(count) bytes where \(needed) are needed"
        case .cannotMap(let error): "the memory cannot be mapped: \(error)"
        case .badInflight(let queues, let size): "in-flight memory for \(queues) rings of \(size) entries"
        case .badLog(let count, let offset): "a log of \(count) bytes at \(offset)"
        case .logMayShrink: "the log could be made shorter; it has to be sealed (F_SEAL_SHRINK)"
        case .shortLog(let pages, let guest): "a log of \(pages) pages has none for 0x\(String(guest, radix: 16))"
        case .badTranslation(let error): "\(error)"
        case .translationOutside(let user, let count):
            "IO addresses for \(count) bytes at 0x\(String(user, radix: 16)), which are not shared"
        case .notATranslation(let kind): "a word of kind \(kind) about IO addresses, which is this side's to say"
        case .scatteredRing(let ring): "ring \(ring) lies in pages apart from each other, and what it writes cannot be logged"
        case .notOffered(let bits): "features 0x\(String(bits, radix: 16)) were not offered"
        case .lacking(let features): "\(features) have to be agreed to as well"
        case .badConfiguration(let offset, let count): "\(count) bytes at \(offset) of the configuration space"
        }
    }
}
