// causeway_map_…

import CCausewayTranslation
import FrameMapReaders
import FrameMaps
import Glibc

/// What a map's handle stands for.
final class MapObject: Sendable {
    let map: FrameMap
    /// A dump's map, whose aliases are answered too, and which does not change.
    let snapshot: TableSnapshot?

    init(_ map: FrameMap) {
        self.map = map
        snapshot = nil
    }
    init(_ snapshot: TableSnapshot) {
        map = snapshot.map
        self.snapshot = snapshot
    }

    func changeable() throws(Refusal) -> FrameMap {
        if snapshot != nil { throw Refusal(EROFS) }
        return map
    }
}

/// Keeps foreign pages in a map.
final class ForeignObject: Sendable {
    private let token: ForeignFrames
    init(_ token: consuming ForeignFrames) { self.token = token }
}

private let mostPages: UInt64 = 1 << 24
private let widest: UInt64 = 1 << 40

private func permissions(_ bits: UInt32) throws(Refusal) -> FramePermissions {
    guard bits & ~3 == 0 else { throw Refusal(EINVAL) }
    return FramePermissions(rawValue: UInt8(bits))
}

private func range(_ pfn: UInt64, _ count: UInt64) throws(Refusal) -> FrameRange<Pfn> {
    guard let range = FrameRange(Pfn(rawValue: pfn), count: count) else { throw Refusal(ERANGE) }
    return range
}

func memoryModel(_ number: UInt32) throws(Refusal) -> MemoryModel {
    switch number {
    case CAUSEWAY_MODEL_P2M: .p2m
    case CAUSEWAY_MODEL_IDENTITY: .identity
    case CAUSEWAY_MODEL_VP: .vp
    default: throw Refusal(EINVAL)
    }
}

private func kind(_ entry: FrameEntry) -> UInt32 {
    switch entry {
    case .invalid: CAUSEWAY_ENTRY_NONE
    case .ballooned: CAUSEWAY_ENTRY_BALLOONED
    case .identity: CAUSEWAY_ENTRY_IDENTITY
    case .local: CAUSEWAY_ENTRY_LOCAL
    case .foreign: CAUSEWAY_ENTRY_FOREIGN
    }
}

private func changing(_ handle: OpaquePointer?, _ body: (FrameMap) throws -> Void) -> Int32 {
    answering { try body(unsafe given(object(handle, MapObject.self)).changeable()) }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_create(
    _ owner: UInt16, _ model: UInt32, _ pfn_limit: UInt64, _ frame_limit: UInt64, _ own_frames: UInt64,
    _ map: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
    answering {
        let out = unsafe try given(map)
        let model = try memoryModel(model)
        guard pfn_limit <= widest, frame_limit <= widest, own_frames <= min(pfn_limit, frame_limit),
            model != .p2m || own_frames == 0
        else { throw Refusal(EINVAL) }
        let made = try FrameMap(owner: owner, model: model, pfnLimit: pfn_limit, frameLimit: frame_limit, ownFrames: own_frames)
        unsafe out.pointee = handle(MapObject(made))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_destroy(_ map: OpaquePointer?) { unsafe giveBack(map, MapObject.self) }

/// See causeway_translation.h.
@c @implementation
public func causeway_map_set(_ map: OpaquePointer?, _ pfn: UInt64, _ page_count: UInt64, _ frame: UInt64, _ bits: UInt32) -> Int32 {
    unsafe changing(map) { try $0.map(range(pfn, page_count), to: BusFrame(rawValue: frame), permissions(bits)) }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_set_identity(_ map: OpaquePointer?, _ pfn: UInt64, _ page_count: UInt64, _ bits: UInt32) -> Int32 {
    unsafe changing(map) { try $0.mapIdentity(range(pfn, page_count), permissions(bits)) }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_set_permissions(_ map: OpaquePointer?, _ pfn: UInt64, _ page_count: UInt64, _ bits: UInt32) -> Int32 {
    unsafe changing(map) { try $0.setPermissions(range(pfn, page_count), permissions(bits)) }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_clear(_ map: OpaquePointer?, _ pfn: UInt64, _ page_count: UInt64) -> Int32 {
    unsafe changing(map) { try $0.unmap(range(pfn, page_count)) }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_balloon_out(_ map: OpaquePointer?, _ pfn: UInt64, _ page_count: UInt64) -> Int32 {
    unsafe changing(map) { try $0.balloonOut(range(pfn, page_count)) }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_set_foreign(
    _ map: OpaquePointer?, _ pfn: UInt64, _ frames: UnsafePointer<UInt64>?, _ page_count: UInt64, _ owner: UInt16, _ bits: UInt32,
    _ foreign: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
    unsafe changing(map) { map in
        let (frames, out) = unsafe (try given(frames), try given(foreign))
        guard page_count > 0, page_count <= mostPages else { throw Refusal(EINVAL) }
        let list = unsafe UnsafeBufferPointer(start: frames, count: Int(page_count)).map { BusFrame(rawValue: $0) }
        let token = try map.mapForeign(range(pfn, page_count), to: list, of: owner, permissions(bits))
        unsafe out.pointee = handle(ForeignObject(token))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_foreign_destroy(_ foreign: OpaquePointer?) { unsafe giveBack(foreign, ForeignObject.self) }

/// See causeway_translation.h.
@c @implementation
public func causeway_map_translate(
    _ map: OpaquePointer?, _ address: UInt64, _ page_count: UInt64, _ translation: UnsafeMutablePointer<causeway_translation>?
) -> Int32 {
    answering {
        let here = unsafe try given(object(map, MapObject.self))
        let out = unsafe try given(translation)
        let pfn = Pfn(rawValue: address >> frameShift), offset = PageOffset(ofAddress: address)
        let answer = here.snapshot?.translate(pfn, offset, pages: page_count) ?? here.map.translate(pfn, offset, pages: page_count)
        guard let answer else { throw Refusal(ENOENT) }
        // An alias has no entry; it is the domain's own memory all the same.
        let kind = here.map.frame(of: pfn) == nil ? CAUSEWAY_ENTRY_LOCAL : kind(here.map.entry(at: pfn))
        unsafe out.pointee = causeway_translation(
            frame: answer.frame.rawValue, page_count: answer.pageCount, offset: UInt32(answer.offset.rawValue),
            permissions: UInt32(answer.permissions.rawValue), kind: kind, reserved: 0)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_reverse(_ map: OpaquePointer?, _ frame: UInt64, _ reverse: UnsafeMutablePointer<causeway_reverse>?)
    -> Int32
{
    answering {
        let here = unsafe try given(object(map, MapObject.self))
        let out = unsafe try given(reverse)
        guard let found = here.map.pfn(of: BusFrame(rawValue: frame)) else { throw Refusal(ENOENT) }
        unsafe out.pointee = causeway_reverse(
            pfn: found.pfn.rawValue, generation: found.generation, is_foreign: found.isForeign ? 1 : 0, reserved: 0)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_range(
    _ map: OpaquePointer?, _ pfn: UInt64, _ page_count: UInt64, _ runs: UnsafeMutablePointer<causeway_run>?, _ capacity: Int,
    _ count: UnsafeMutablePointer<Int>?, _ next: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    answering {
        let here = unsafe try given(object(map, MapObject.self))
        let (count, next) = unsafe (try given(count), try given(next))
        let range = try range(pfn, page_count)
        guard range.end <= here.map.pfnLimit else { throw Refusal(ERANGE) }
        guard capacity >= 0, unsafe capacity == 0 || runs != nil else { throw Refusal(EINVAL) }
        var written = 0
        var end = range.start.rawValue
        here.map.forEachRun(in: range) { run, entry in
            guard written < capacity else { return false }
            let frame = entry.translation?.frame.rawValue ?? 0
            unsafe runs?[written] = causeway_run(
                pfn: run.start.rawValue, page_count: run.count, frame: frame,
                permissions: UInt32(entry.translation?.permissions.rawValue ?? 0), kind: kind(entry))
            written += 1
            end = run.end
            return true
        }
        unsafe count.pointee = written
        unsafe next.pointee = end
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_generation(_ map: OpaquePointer?) -> UInt64 { unsafe object(map, MapObject.self)?.map.generation ?? 0 }

/// See causeway_translation.h.
@c @implementation
public func causeway_map_is_current(_ map: OpaquePointer?, _ generation: UInt64) -> Int32 {
    unsafe object(map, MapObject.self)?.map.isCurrent(generation) == true ? 1 : 0
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_audit(_ map: OpaquePointer?, _ audit: UnsafeMutablePointer<causeway_audit>?) -> Int32 {
    answering {
        let here = unsafe try given(object(map, MapObject.self))
        let out = unsafe try given(audit)
        let found = here.map.audit()
        unsafe out.pointee = causeway_audit(
            local: found.local, identity: found.identity, foreign: found.foreign, ballooned: found.ballooned, runs: found.runs,
            longest_run: found.longestRun, inconsistent: UInt64(found.inconsistent.count))
    }
}
