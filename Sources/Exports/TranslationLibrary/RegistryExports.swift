// causeway_registry_…: memory that a process has for its devices, registered once.

import CCausewayTranslation
import Glibc
import HostIommu
import LinuxSystem
import SharedMemory
import Synchronization

/// What a registry's handle stands for.
final class RegistryObject: Sendable {
    let registry: MemoryRegistry
    private let words = Mutex<String?>(nil)

    init(_ registry: MemoryRegistry) { self.registry = registry }
    // Here, and not with the last reference to the registry, which its thread may have for a moment.
    deinit { registry.close() }

    var lastRefusal: String? { words.withLock { $0 } }
    func keep(_ refusal: String) { words.withLock { $0 = refusal } }
}

/// A C function and what it is called with.
///
/// SAFETY: the caller keeps both good until the listener ends, and calls of any thread, as the header says.
@safe
private struct CListener: @unchecked Sendable {
    let function: causeway_listener
    let context: UnsafeMutableRawPointer?

    /// Throws EINVAL for NULL.
    @safe
    init(_ function: causeway_listener?, _ context: UnsafeMutableRawPointer?) throws(ErrorNumber) {
        guard let function = unsafe function else { throw ErrorNumber(EINVAL) }
        unsafe self.function = function
        unsafe self.context = context
    }

    func tell(_ event: MemoryRegistry.Event, _ region: SharedRegion) throws(Errno) {
        let answer = unsafe function(
            context, event.rawValue, UnsafeMutableRawPointer(bitPattern: UInt(region.address)), UInt64(region.byteCount))
        if answer != 0 { throw Errno(answer == .min ? EINVAL : abs(answer)) }
    }
}

/// Runs a call's body with the registry; what is thrown leaves its words with it.
@safe
private func answering(registry: OpaquePointer?, _ body: (RegistryObject) throws -> Void) -> Int32 {
    guard let here = known(registry, RegistryObject.self) else { return -EINVAL }
    return answering {
        do { try body(here) } catch {
            here.keep("\(error)")
            throw error
        }
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_registry_create(
    _ flags: UInt32, _ registry: UnsafeMutablePointer<OpaquePointer?>?, _ message: UnsafeMutablePointer<CChar>?, _ size: Int
) -> Int32 {
    answering {
        let out = try Place(registry)
        guard flags & ~CAUSEWAY_REGISTRY_WATCHED == 0 else { throw ErrorNumber(EINVAL) }
        do throws(Errno) {
            out.put(handleOf: RegistryObject(try MemoryRegistry(watched: flags & CAUSEWAY_REGISTRY_WATCHED != 0)))
        } catch {
            put("memory cannot be watched here: userfaultfd: \(error)", message, size)
            throw error
        }
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_registry_destroy(_ registry: OpaquePointer?) { giveBack(registry, RegistryObject.self) }

/// See causeway_translation.h.
@c @implementation
public func causeway_registry_message(_ registry: OpaquePointer?, _ message: UnsafeMutablePointer<CChar>?, _ size: Int) -> Int32 {
    answering {
        guard let words = try object(registry, RegistryObject.self).lastRefusal else { throw ErrorNumber(ENOENT) }
        put(words, message, size)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_registry_register(
    _ registry: OpaquePointer?, _ memory: UnsafeMutableRawPointer?, _ byte_count: UInt64, _ bits: UInt32
) -> Int32 {
    answering(registry: registry) { here in
        guard bits == CAUSEWAY_READ || bits == CAUSEWAY_READ | CAUSEWAY_WRITE else {
            throw Refusal(EINVAL, "permissions 0x\(String(bits, radix: 16)): CAUSEWAY_READ, or with it CAUSEWAY_WRITE")
        }
        try here.registry.register(try lentPages(memory, byte_count, writable: bits & CAUSEWAY_WRITE != 0))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_registry_unregister(
    _ registry: OpaquePointer?, _ memory: UnsafeMutableRawPointer?, _ byte_count: UInt64
) -> Int32 {
    answering(registry: registry) { here in
        try here.registry.unregister(UInt64(UInt(bitPattern: memory)), byteCount: byte_count)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_registry_join(_ registry: OpaquePointer?, _ space: OpaquePointer?) -> Int32 {
    answering(registry: registry) { here in try here.registry.join(try object(space, SpaceObject.self).space) }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_registry_leave(_ registry: OpaquePointer?, _ space: OpaquePointer?) -> Int32 {
    answering(registry: registry) { here in try here.registry.leave(try object(space, SpaceObject.self).space) }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_registry_listen(
    _ registry: OpaquePointer?, _ listener: causeway_listener?, _ context: UnsafeMutableRawPointer?,
    _ number: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    answering(registry: registry) { here in
        let out = try Place(number)
        let told = try CListener(listener, context)
        out.put(try here.registry.listen { event, region throws(Errno) in try told.tell(event, region) })
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_registry_end_listening(_ registry: OpaquePointer?, _ number: UInt64) -> Int32 {
    answering(registry: registry) { here in try here.registry.endListening(number) }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_registry_get_size(
    _ registry: OpaquePointer?, _ count: UnsafeMutablePointer<UInt64>?, _ byte_count: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    answering(registry: registry) { here in
        let (count, bytes) = (try Place(count), try Place(byte_count))
        let size = try here.registry.size()
        count.put(UInt64(size.count))
        bytes.put(size.byteCount)
    }
}
