// What a C caller gives: text, values, lists, and places for answers. All that is unsafe about pointers from C is here
// and in Handles.swift, once; the functions that the header declares are written without.
//
// Of a pointer can be checked that it is not NULL, and nothing else. That it leads to what the header says, for as long
// as the call lasts, is the caller's promise. Only the exported functions make anything of what is below, of their own
// arguments, and none of it outlives the call, but for memory that the header says is lent for longer: so these are
// `@safe`.

import CCausewayTranslation
import FrameMapReaders
import FrameMaps
import Glibc
import LinuxSystem

/// The value that an argument points to. Throws EINVAL for NULL.
///
/// SAFETY: one value that the caller has initialized; it is copied.
@safe
func value<Value>(_ pointer: UnsafePointer<Value>?) throws(ErrorNumber) -> Value {
    guard let pointer = unsafe pointer else { throw ErrorNumber(EINVAL) }
    return unsafe pointer.pointee
}

/// The text that an argument points to. Throws EINVAL for NULL.
///
/// SAFETY: bytes that end with a NUL; they are copied.
@safe
func text(_ pointer: UnsafePointer<CChar>?) throws(ErrorNumber) -> String {
    guard let pointer = unsafe pointer else { throw ErrorNumber(EINVAL) }
    return unsafe String(cString: pointer)
}

/// What is made of each of the values that an argument points to. Throws EINVAL for NULL, and unless there are 1 to
/// `most`.
///
/// SAFETY: `count` values, as the caller says beside the pointer; what is made of them is kept, and not they.
@safe
func list<Value, Made>(
    _ pointer: UnsafePointer<Value>?, count: Int, most: Int, _ make: (Value) -> Made
) throws(ErrorNumber) -> [Made] {
    guard let pointer = unsafe pointer, count > 0, count <= most else { throw ErrorNumber(EINVAL) }
    return unsafe UnsafeBufferPointer(start: pointer, count: count).map(make)
}

/// A place for one answer.
///
/// SAFETY: room for one value of the caller's own, which nobody else looks at during the call.
@safe
struct Place<Value> {
    private let pointer: UnsafeMutablePointer<Value>

    /// Throws EINVAL for NULL.
    @safe
    init(_ pointer: UnsafeMutablePointer<Value>?) throws(ErrorNumber) {
        guard let pointer = unsafe pointer else { throw ErrorNumber(EINVAL) }
        unsafe self.pointer = pointer
    }

    func put(_ value: Value) { unsafe pointer.pointee = value }

    /// Puts a handle there, which owns `object` until it is given back.
    @safe
    func put<Object: AnyObject>(handleOf object: Object) where Value == OpaquePointer? { unsafe pointer.pointee = handle(object) }
}

/// SAFETY: an address for the caller, of memory that the header says is there; nothing is looked at.
extension Place where Value == UnsafeMutableRawPointer? {
    @safe func put(address: UInt64) { unsafe pointer.pointee = UnsafeMutableRawPointer(bitPattern: UInt(address)) }
}

/// The text that an argument points to; nil for NULL.
///
/// SAFETY: as for `text`.
@safe
func optionalText(_ pointer: UnsafePointer<CChar>?) -> String? { unsafe pointer == nil ? nil : try? text(pointer) }

/// Places for a number of answers.
///
/// SAFETY: room for `capacity` values of the caller's own, as it says beside the pointer; each index is compared with
/// that.
@safe
struct Places<Value> {
    let capacity: Int
    private let first: UnsafeMutablePointer<Value>?

    /// Throws EINVAL for less than none, and for NULL unless there are none.
    @safe
    init(_ first: UnsafeMutablePointer<Value>?, _ capacity: Int) throws(ErrorNumber) {
        guard capacity >= 0, unsafe capacity == 0 || first != nil else { throw ErrorNumber(EINVAL) }
        self.capacity = capacity
        unsafe self.first = first
    }

    func put(_ value: Value, at index: Int) {
        precondition(index >= 0 && index < capacity, "an answer without a place")
        unsafe first?[index] = value
    }
}

/// A dump's bytes where the caller has them.
///
/// SAFETY: `byteCount` bytes that are there, and nobody writes them, until what reads them is destroyed, as the header
/// says; reads are held against the count.
@safe
struct LentMemory: ByteSource, @unchecked Sendable {
    private let base: UnsafeRawPointer
    let byteCount: UInt64

    /// Throws EINVAL for NULL and for less than none.
    @safe
    init(_ base: UnsafeRawPointer?, _ byteCount: Int) throws(ErrorNumber) {
        guard let base = unsafe base, byteCount >= 0 else { throw ErrorNumber(EINVAL) }
        unsafe self.base = base
        self.byteCount = UInt64(byteCount)
    }

    func read(_ count: Int, at offset: UInt64) throws(Errno) -> [UInt8] {
        guard count > 0, offset < byteCount else { return [] }
        let start = Int(offset)
        return unsafe Array(UnsafeRawBufferPointer(start: base + start, count: min(count, Int(byteCount) - start)))
    }
}

/// A place for a page.
///
/// SAFETY: room for 4096 bytes of the caller's own.
@safe
struct PagePlace {
    private let memory: UnsafeMutableRawPointer

    /// Throws EINVAL for NULL.
    @safe
    init(_ memory: UnsafeMutableRawPointer?) throws(ErrorNumber) {
        guard let memory = unsafe memory else { throw ErrorNumber(EINVAL) }
        unsafe self.memory = memory
    }

    func put(_ bytes: [UInt8]) {
        precondition(bytes.count == frameByteCount, "a page that is none")
        unsafe bytes.withUnsafeBytes { bytes in
            if let base = bytes.baseAddress { unsafe memory.copyMemory(from: base, byteCount: bytes.count) }
        }
    }
}

/// Copies text with its NUL into a caller's buffer, cut to fit; NULL is no buffer.
///
/// SAFETY: room for `size` bytes of the caller's own, as it says beside the pointer; at most `size` are written.
@safe
func put(_ text: String, _ buffer: UnsafeMutablePointer<CChar>?, _ size: Int) {
    guard let buffer = unsafe buffer, size > 0 else { return }
    let bytes = text.utf8.prefix(size - 1)
    for (index, byte) in bytes.enumerated() { unsafe buffer[index] = CChar(bitPattern: byte) }
    unsafe buffer[bytes.count] = 0
}
