// Objects behind C's opaque handles, and errors as negative errno values. The header declares every function of this room; the compiler checks each
// implementation against it.

import CCausewayTranslation
import DMA
import FrameMapReaders
import FrameMaps
import Glibc

/// A handle that owns `object` until `give back`.
func handle<Object: AnyObject>(_ object: Object) -> OpaquePointer {
    unsafe OpaquePointer(Unmanaged.passRetained(object).toOpaque())
}

/// The object behind a handle, or nil for NULL.
func object<Object: AnyObject>(_ handle: OpaquePointer?, _ type: Object.Type = Object.self) -> Object? {
    // SAFETY: the caller passes what a function of the same kind gave out; nothing else can be known of a pointer.
    guard let handle = unsafe handle else { return nil }
    return unsafe Unmanaged<Object>.fromOpaque(UnsafeRawPointer(handle)).takeUnretainedValue()
}

/// Ends what a handle owned; NULL is nothing.
func giveBack<Object: AnyObject>(_ handle: OpaquePointer?, _ type: Object.Type) {
    guard let handle = unsafe handle else { return }
    unsafe Unmanaged<Object>.fromOpaque(UnsafeRawPointer(handle)).release()
}

/// An error number, thrown inside this room.
struct Refusal: Error {
    let number: Int32
    init(_ number: Int32) { self.number = number }
}

/// Runs a call's body: 0, or the negative number of what it threw.
func answering(_ body: () throws -> Void) -> Int32 {
    do {
        try body()
        return 0
    } catch let error as Refusal {
        return -error.number
    } catch let error as FrameMapError {
        return -number(error)
    } catch let error as DMAError {
        return -number(error)
    } catch let error as DumpError {
        return -number(error)
    } catch {
        return -EIO
    }
}

/// The value, or -EINVAL.
func given<Value>(_ value: Value?) throws(Refusal) -> Value {
    guard let value else { throw Refusal(EINVAL) }
    return value
}

private func number(_ error: FrameMapError) -> Int32 {
    switch error {
    case .pfnOutOfRange, .frameOutOfRange: ERANGE
    case .alreadyMapped: EEXIST
    case .notMapped: ENOENT
    case .frameInUse, .notBallooned: EBUSY
    case .isForeign: EPERM
    case .tableMemory, .noMemory: ENOMEM
    }
}

private func number(_ error: DMAError) -> Int32 {
    switch error {
    case .noSuchPage, .notMapped: ENOENT
    case .notWritable: EACCES
    case .needsBounce: EOPNOTSUPP
    case .poolFull, .noIova: ENOSPC
    case .tableMemory, .noMemory, .noTables, .noPool: ENOMEM
    case .outsideMapping: ERANGE
    default: EINVAL
    }
}

func number(_ error: DumpError) -> Int32 {
    switch error.cause {
    case .malformed: EBADMSG
    case .unsupported: ENOTSUP
    case .tooLarge: EFBIG
    case .system(let error): error.rawValue
    }
}

/// Copies text with its NUL into a caller's buffer, cut to fit.
func put(_ text: String, _ buffer: UnsafeMutablePointer<CChar>?, _ size: Int) {
    guard let buffer = unsafe buffer, size > 0 else { return }
    let bytes = text.utf8.prefix(size - 1)
    for (index, byte) in bytes.enumerated() { unsafe buffer[index] = CChar(bitPattern: byte) }
    unsafe buffer[bytes.count] = 0
}

/// See causeway_translation.h.
@c @implementation
public func causeway_translation_version() -> UInt32 { 0x0001_0000 }
