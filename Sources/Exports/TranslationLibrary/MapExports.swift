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

    func changeable() throws(ErrorNumber) -> FrameMap {
        if snapshot != nil { throw ErrorNumber(EROFS) }
        return map
    }
}

/// Keeps foreign pages in a map.
final class ForeignObject: Sendable {
    private let token: ForeignFrames
    init(_ token: consuming ForeignFrames) { self.token = token }
}

private let mostPages = 1 << 24
private let widest: UInt64 = 1 << 40

private func permissions(_ bits: UInt32) throws(ErrorNumber) -> FramePermissions {
    guard bits & ~3 == 0 else { throw ErrorNumber(EINVAL) }
    return FramePermissions(rawValue: UInt8(bits))
}

private func range(_ pfn: UInt64, _ count: UInt64) throws(ErrorNumber) -> FrameRange<Pfn> {
    guard let range = FrameRange(Pfn(rawValue: pfn), count: count) else { throw ErrorNumber(ERANGE) }
    return range
}

func memoryModel(_ number: UInt32) throws(ErrorNumber) -> MemoryModel {
    switch number {
    case CAUSEWAY_MODEL_P2M: .p2m
    case CAUSEWAY_MODEL_IDENTITY: .identity
    case CAUSEWAY_MODEL_VP: .vp
    default: throw ErrorNumber(EINVAL)
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

@safe
private func changing(_ handle: OpaquePointer?, _ body: (FrameMap) throws -> Void) -> Int32 {
    answering { try body(object(handle, MapObject.self).changeable()) }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_create(
    _ owner: UInt16, _ model: UInt32, _ pfn_limit: UInt64, _ frame_limit: UInt64, _ own_frames: UInt64,
    _ map: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
    answering {
        let out = try Place(map)
        let model = try memoryModel(model)
        guard pfn_limit <= widest, frame_limit <= widest, own_frames <= min(pfn_limit, frame_limit),
            model != .p2m || own_frames == 0
        else { throw ErrorNumber(EINVAL) }
        let made = try FrameMap(owner: owner, model: model, pfnLimit: pfn_limit, frameLimit: frame_limit, ownFrames: own_frames)
        out.put(handleOf: MapObject(made))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_destroy(_ map: OpaquePointer?) { giveBack(map, MapObject.self) }

/// See causeway_translation.h.
@c @implementation
public func causeway_map_set(_ map: OpaquePointer?, _ pfn: UInt64, _ page_count: UInt64, _ frame: UInt64, _ bits: UInt32) -> Int32 {
    changing(map) { try $0.map(range(pfn, page_count), to: BusFrame(rawValue: frame), permissions(bits)) }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_set_identity(_ map: OpaquePointer?, _ pfn: UInt64, _ page_count: UInt64, _ bits: UInt32) -> Int32 {
    changing(map) { try $0.mapIdentity(range(pfn, page_count), permissions(bits)) }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_set_permissions(_ map: OpaquePointer?, _ pfn: UInt64, _ page_count: UInt64, _ bits: UInt32) -> Int32 {
    changing(map) { try $0.setPermissions(range(pfn, page_count), permissions(bits)) }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_clear(_ map: OpaquePointer?, _ pfn: UInt64, _ page_count: UInt64) -> Int32 {
    changing(map) { try $0.unmap(range(pfn, page_count)) }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_balloon_out(_ map: OpaquePointer?, _ pfn: UInt64, _ page_count: UInt64) -> Int32 {
    changing(map) { try $0.balloonOut(range(pfn, page_count)) }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_set_foreign(
    _ map: OpaquePointer?, _ pfn: UInt64, _ frames: UnsafePointer<UInt64>?, _ page_count: UInt64, _ owner: UInt16, _ bits: UInt32,
    _ foreign: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
    changing(map) { map in
        let out = try Place(foreign)
        let list = try list(frames, count: Int(clamping: page_count), most: mostPages) { BusFrame(rawValue: $0) }
        let token = try map.mapForeign(range(pfn, page_count), to: list, of: owner, permissions(bits))
        out.put(handleOf: ForeignObject(token))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_foreign_destroy(_ foreign: OpaquePointer?) { giveBack(foreign, ForeignObject.self) }

/// See causeway_translation.h.
@c @implementation
public func causeway_map_translate(
    _ map: OpaquePointer?, _ address: UInt64, _ page_count: UInt64, _ translation: UnsafeMutablePointer<causeway_translation>?
) -> Int32 {
    answering {
        let here = try object(map, MapObject.self)
        let out = try Place(translation)
        let pfn = Pfn(rawValue: address >> frameShift), offset = PageOffset(ofAddress: address)
        let answer = here.snapshot?.translate(pfn, offset, pages: page_count) ?? here.map.translate(pfn, offset, pages: page_count)
        guard let answer else { throw ErrorNumber(ENOENT) }
        // An alias has no entry; it is the domain's own memory all the same.
        let kind = here.map.frame(of: pfn) == nil ? CAUSEWAY_ENTRY_LOCAL : kind(here.map.entry(at: pfn))
        out.put(
            causeway_translation(
                frame: answer.frame.rawValue, page_count: answer.pageCount, offset: UInt32(answer.offset.rawValue),
                permissions: UInt32(answer.permissions.rawValue), kind: kind, reserved: 0))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_reverse(_ map: OpaquePointer?, _ frame: UInt64, _ reverse: UnsafeMutablePointer<causeway_reverse>?)
    -> Int32
{
    answering {
        let here = try object(map, MapObject.self)
        let out = try Place(reverse)
        guard let found = here.map.pfn(of: BusFrame(rawValue: frame)) else { throw ErrorNumber(ENOENT) }
        out.put(
            causeway_reverse(
                pfn: found.pfn.rawValue, generation: found.generation, is_foreign: found.isForeign ? 1 : 0, reserved: 0))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_range(
    _ map: OpaquePointer?, _ pfn: UInt64, _ page_count: UInt64, _ runs: UnsafeMutablePointer<causeway_run>?, _ capacity: Int,
    _ count: UnsafeMutablePointer<Int>?, _ next: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    answering {
        let here = try object(map, MapObject.self)
        let (count, next) = (try Place(count), try Place(next))
        let range = try range(pfn, page_count)
        guard range.end <= here.map.pfnLimit else { throw ErrorNumber(ERANGE) }
        let runs = try Places(runs, capacity)
        var written = 0
        var end = range.start.rawValue
        here.map.forEachRun(in: range) { run, entry in
            guard written < capacity else { return false }
            let frame = entry.translation?.frame.rawValue ?? 0
            runs.put(
                causeway_run(
                    pfn: run.start.rawValue, page_count: run.count, frame: frame,
                    permissions: UInt32(entry.translation?.permissions.rawValue ?? 0), kind: kind(entry)), at: written)
            written += 1
            end = run.end
            return true
        }
        count.put(written)
        next.put(end)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_page_limit(_ map: OpaquePointer?) -> UInt64 { known(map, MapObject.self)?.map.pfnLimit ?? 0 }

/// See causeway_translation.h.
@c @implementation
public func causeway_map_generation(_ map: OpaquePointer?) -> UInt64 { known(map, MapObject.self)?.map.generation ?? 0 }

/// See causeway_translation.h.
@c @implementation
public func causeway_map_is_current(_ map: OpaquePointer?, _ generation: UInt64) -> Int32 {
    known(map, MapObject.self)?.map.isCurrent(generation) == true ? 1 : 0
}

/// See causeway_translation.h.
@c @implementation
public func causeway_map_audit(_ map: OpaquePointer?, _ audit: UnsafeMutablePointer<causeway_audit>?) -> Int32 {
    answering {
        let here = try object(map, MapObject.self)
        let out = try Place(audit)
        let found = here.map.audit()
        out.put(
            causeway_audit(
                local: found.local, identity: found.identity, foreign: found.foreign, ballooned: found.ballooned, runs: found.runs,
                longest_run: found.longestRun, inconsistent: UInt64(found.inconsistent.count)))
    }
}
