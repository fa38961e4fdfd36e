// Objects behind C's opaque handles, and errors as negative errno values. The header declares every function of this
// module; the compiler checks each implementation against it.

import CCausewayTranslation
import DMA
import FrameMapReaders
import FrameMaps
import Glibc
import HostIommu
import LinuxSystem

/// A handle that owns `object` until `giveBack`.
///
/// SAFETY: a pointer that C only hands back; the object has one retain for it, which `giveBack` ends.
@safe
func handle<Object: AnyObject>(_ object: Object) -> OpaquePointer {
    unsafe OpaquePointer(Unmanaged.passRetained(object).toOpaque())
}

/// The object behind a handle, or nil for NULL.
///
/// SAFETY: the caller passes what a function of the same kind gave out, and does not give it back during the call;
/// nothing else can be known of a pointer. The object is retained for as long as it is used here.
@safe
func known<Object: AnyObject>(_ handle: OpaquePointer?, _ type: Object.Type = Object.self) -> Object? {
    guard let handle = unsafe handle else { return nil }
    return unsafe Unmanaged<Object>.fromOpaque(UnsafeRawPointer(handle)).takeUnretainedValue()
}

/// The object behind a handle. Throws EINVAL for NULL.
@safe
func object<Object: AnyObject>(_ handle: OpaquePointer?, _ type: Object.Type = Object.self) throws(ErrorNumber) -> Object {
    guard let object = known(handle, type) else { throw ErrorNumber(EINVAL) }
    return object
}

/// Ends what a handle owned; NULL is nothing.
///
/// SAFETY: the caller passes what `handle` made of such an object, once, and never again.
@safe
func giveBack<Object: AnyObject>(_ handle: OpaquePointer?, _ type: Object.Type) {
    guard let handle = unsafe handle else { return }
    unsafe Unmanaged<Object>.fromOpaque(UnsafeRawPointer(handle)).release()
}

/// A number of errno, thrown within this module and returned by its functions in C.
struct ErrorNumber: Error, CustomStringConvertible {
    let number: Int32
    var description: String { "the system's error \(number)" }
    init(_ number: Int32) { self.number = number }
}

/// A number of errno with words for the caller who asks.
struct Refusal: Error, CustomStringConvertible {
    let number: Int32
    let description: String
    init(_ number: Int32, _ description: String) {
        self.number = number
        self.description = description
    }
}

/// Runs a call's body: 0, or the negative number of what it threw.
func answering(_ body: () throws -> Void) -> Int32 {
    do {
        try body()
        return 0
    } catch let error as ErrorNumber {
        return -error.number
    } catch let error as FrameMapError {
        return -number(error)
    } catch let error as DMAError {
        return -number(error)
    } catch let error as DumpError {
        return -number(error)
    } catch let error as DMABackEndError {
        return -number(error)
    } catch let error as RegistryError {
        return -number(error)
    } catch let error as Refusal {
        return -error.number
    } catch let error as Errno {
        return -error.rawValue
    } catch {
        return -EIO
    }
}

private func number(_ error: FrameMapError) -> Int32 {
    switch error {
    case .pfnOutOfRange, .frameOutOfRange: ERANGE
    case .alreadyMapped: EEXIST
    case .notMapped: ENOENT
    case .frameInUse, .notBallooned: EBUSY
    case .frameCount: EINVAL
    case .isForeign: EPERM
    case .tableMemory, .noMemory: ENOMEM
    }
}

private func number(_ error: DMAError) -> Int32 {
    switch error {
    case .noSuchPage, .notMapped, .notReserved: ENOENT
    case .notWritable: EACCES
    case .needsBounce: EOPNOTSUPP
    case .poolFull, .noIova: ENOSPC
    case .tableMemory, .noMemory, .noTables, .noPool: ENOMEM
    case .outsideMapping, .outsideSpace, .frameOutOfRange: ERANGE
    case .alreadyLinked: EEXIST
    default: EINVAL
    }
}

func number(_ error: DMABackEndError) -> Int32 {
    switch error {
    case .unknown, .needsArgument, .misaligned, .cutsMapping: EINVAL
    case .unavailable: ENODEV
    case .outsideAddresses, .outsideMapping: ERANGE
    case .overlaps: EEXIST
    case .noAddresses, .tooManyMappings: ENOSPC
    case .lockedMemory: EDQUOT
    case .notMapped: ENOENT
    case .unmappedOther: EIO
    case .unsupported: EOPNOTSUPP
    case .noVectors: ENXIO
    case .kernel(_, let error): error.rawValue
    case .dma(let error): number(error)
    case .noFrames: ENOMEM
    }
}

private func number(_ error: RegistryError) -> Int32 {
    switch error {
    case .overlaps, .joined: EEXIST
    case .cuts: ERANGE
    case .notRegistered, .notJoined: ENOENT
    case .space(let error): number(error)
    case .refused(_, let error), .unwatched(_, let error): error.rawValue
    case .busyHere: EDEADLK
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

/// See causeway_translation.h.
@c @implementation
public func causeway_translation_version() -> UInt32 { 0x0001_0003 }
