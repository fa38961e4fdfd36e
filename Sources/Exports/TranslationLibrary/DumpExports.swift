// causeway_dump_…

import CCausewayTranslation
import FrameMapReaders
import FrameMaps
import Glibc
import LinuxSystem

/// See causeway_translation.h.
@c @implementation
public func causeway_dump_open(
    _ path: UnsafePointer<CChar>?, _ dump: UnsafeMutablePointer<OpaquePointer?>?, _ message: UnsafeMutablePointer<CChar>?,
    _ size: Int
) -> Int32 {
    answering {
        let path = try text(path)
        try open(dump, "\(path): ", message, size) { () throws(DumpError) in try CoreDump(path: path) }
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dump_open_descriptor(
    _ descriptor: Int32, _ dump: UnsafeMutablePointer<OpaquePointer?>?, _ message: UnsafeMutablePointer<CChar>?, _ size: Int
) -> Int32 {
    answering {
        let own: Descriptor
        do throws(Errno) { own = try Descriptor.duplicate(of: descriptor) } catch { throw ErrorNumber(error.rawValue) }
        try open(dump, "descriptor \(descriptor): ", message, size) { () throws(DumpError) in try CoreDump(own) }
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dump_open_memory(
    _ bytes: UnsafeRawPointer?, _ byteCount: Int, _ dump: UnsafeMutablePointer<OpaquePointer?>?,
    _ message: UnsafeMutablePointer<CChar>?, _ size: Int
) -> Int32 {
    answering {
        let lent = try LentMemory(bytes, byteCount)
        try open(dump, "", message, size) { () throws(DumpError) in try CoreDump(lent) }
    }
}

/// Puts a dump's handle, or why there is none in words, where the caller wants it.
@safe private func open(
    _ dump: UnsafeMutablePointer<OpaquePointer?>?, _ name: String, _ message: UnsafeMutablePointer<CChar>?, _ size: Int,
    _ make: () throws(DumpError) -> CoreDump
) throws {
    let out = try Place(dump)
    do throws(DumpError) { out.put(handleOf: try make()) } catch {
        put("\(name)\(error)", message, size)
        throw error
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dump_destroy(_ dump: OpaquePointer?) { giveBack(dump, CoreDump.self) }

/// See causeway_translation.h.
@c @implementation
public func causeway_dump_get_info(_ dump: OpaquePointer?, _ info: UnsafeMutablePointer<causeway_dump_info>?) -> Int32 {
    answering {
        let here = try object(dump, CoreDump.self)
        let out = try Place(info)
        out.put(
            causeway_dump_info(
                is_auto_translated: here.header.kind == .autoTranslated ? 1 : 0, guest_width: UInt32(here.header.guestWidth),
                processors: here.header.processors, entries: here.table.entryCount, used: here.table.usedCount,
                findings: here.table.findings.count))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dump_map(_ dump: OpaquePointer?, _ map: UnsafeMutablePointer<OpaquePointer?>?) -> Int32 {
    answering {
        let here = try object(dump, CoreDump.self)
        let out = try Place(map)
        out.put(handleOf: MapObject(here.table))
    }
}

private func copy(_ contents: [UInt8]?, _ page: PagePlace) throws(ErrorNumber) {
    guard let contents else { throw ErrorNumber(ENOENT) }
    page.put(contents)
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dump_read_pfn(_ dump: OpaquePointer?, _ pfn: UInt64, _ page: UnsafeMutableRawPointer?) -> Int32 {
    answering {
        let here = try object(dump, CoreDump.self)
        let out = try PagePlace(page)
        try copy(try here.contents(of: Pfn(rawValue: pfn)), out)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dump_read_mfn(_ dump: OpaquePointer?, _ mfn: UInt64, _ page: UnsafeMutableRawPointer?) -> Int32 {
    answering {
        let here = try object(dump, CoreDump.self)
        let out = try PagePlace(page)
        try copy(try here.contents(of: Mfn(rawValue: mfn)), out)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dump_finding(
    _ dump: OpaquePointer?, _ index: UInt64, _ message: UnsafeMutablePointer<CChar>?, _ size: Int
) -> Int32 {
    answering {
        let here = try object(dump, CoreDump.self)
        let records = here.table.findings.records
        guard index < UInt64(records.count) else { throw ErrorNumber(ENOENT) }
        put(records[Int(index)].description, message, size)
    }
}
