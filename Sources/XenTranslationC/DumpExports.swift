// causeway_dump_…

import CCausewayTranslation
import FrameMapReaders
import FrameMaps
import Glibc

/// See causeway_translation.h.
@c @implementation
public func causeway_dump_open(
    _ path: UnsafePointer<CChar>?, _ dump: UnsafeMutablePointer<OpaquePointer?>?, _ message: UnsafeMutablePointer<CChar>?,
    _ size: Int
) -> Int32 {
    answering {
        let path = unsafe String(cString: try given(path))
        let out = unsafe try given(dump)
        do throws(DumpError) {
            let opened = try CoreDump(path: path)
            unsafe out.pointee = handle(opened)
        } catch {
            unsafe put("\(path): \(error)", message, size)
            throw error
        }
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dump_destroy(_ dump: OpaquePointer?) { unsafe giveBack(dump, CoreDump.self) }

/// See causeway_translation.h.
@c @implementation
public func causeway_dump_get_info(_ dump: OpaquePointer?, _ info: UnsafeMutablePointer<causeway_dump_info>?) -> Int32 {
    answering {
        let here = unsafe try given(object(dump, CoreDump.self))
        let out = unsafe try given(info)
        unsafe out.pointee = causeway_dump_info(
            is_auto_translated: here.header.kind == .autoTranslated ? 1 : 0, guest_width: UInt32(here.header.guestWidth),
            processors: here.header.processors, entries: here.table.entryCount, used: here.table.usedCount,
            findings: here.table.findings.count)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dump_map(_ dump: OpaquePointer?, _ map: UnsafeMutablePointer<OpaquePointer?>?) -> Int32 {
    answering {
        let here = unsafe try given(object(dump, CoreDump.self))
        let out = unsafe try given(map)
        unsafe out.pointee = handle(MapObject(here.table))
    }
}

private func copy(_ contents: [UInt8]?, _ page: UnsafeMutableRawPointer) throws(Refusal) {
    guard let contents else { throw Refusal(ENOENT) }
    unsafe contents.withUnsafeBytes { bytes in
        if let base = bytes.baseAddress { unsafe page.copyMemory(from: base, byteCount: 4096) }
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dump_read_pfn(_ dump: OpaquePointer?, _ pfn: UInt64, _ page: UnsafeMutableRawPointer?) -> Int32 {
    answering {
        let here = unsafe try given(object(dump, CoreDump.self))
        let out = unsafe try given(page)
        unsafe try copy(try here.contents(of: Pfn(rawValue: pfn)), out)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dump_read_mfn(_ dump: OpaquePointer?, _ mfn: UInt64, _ page: UnsafeMutableRawPointer?) -> Int32 {
    answering {
        let here = unsafe try given(object(dump, CoreDump.self))
        let out = unsafe try given(page)
        unsafe try copy(try here.contents(of: Mfn(rawValue: mfn)), out)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dump_finding(
    _ dump: OpaquePointer?, _ index: UInt64, _ message: UnsafeMutablePointer<CChar>?, _ size: Int
) -> Int32 {
    answering {
        let here = unsafe try given(object(dump, CoreDump.self))
        let records = here.table.findings.records
        guard index < UInt64(records.count) else { throw Refusal(ENOENT) }
        unsafe put(records[Int(index)].description, message, size)
    }
}
