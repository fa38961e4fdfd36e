// A frame map against the list of changes that it took, searched from the last one on.

import FrameMaps
import FuzzSupport

/// A change that was taken.
private struct Change {
    enum What { case mapped(frame: UInt64), identity, permissions, hole, ballooned }
    let what: What
    let range: Range<UInt64>
    let permissions: FramePermissions
}

private struct MapModel {
    let ownFrames: UInt64
    var changes: [Change] = []

    /// What must stand at a page: its frame and permissions; nil for none.
    func frame(_ pfn: UInt64) -> (frame: UInt64, permissions: FramePermissions)? {
        var later: FramePermissions?
        for change in changes.reversed() where change.range.contains(pfn) {
            switch change.what {
            case .mapped(let frame):
                return (frame + (pfn - change.range.lowerBound), later ?? change.permissions)
            case .identity: return (pfn, later ?? change.permissions)
            case .permissions: later = later ?? change.permissions
            case .hole, .ballooned: return nil
            }
        }
        return pfn < ownFrames ? (pfn, later ?? .readWrite) : nil
    }
}

/// Two pages of 1 GiB and a bit, so that leaves of every size are made, cut and replaced; in the window of the tables
/// or behind it.
func anyMap(_ input: inout ByteReader) {
    let head = input.byte()
    let base: UInt64 = head & 16 == 0 ? 0 : 1 << 30
    let limit = base + 1 << 19 + 700
    let kind: MemoryModel = [.p2m, .identity, .vp][Int(head % 3)]
    let own: UInt64 = kind == .p2m || base > 0 ? 0 : [0, 700, 1 << 18 + 5, limit][Int(head >> 2 & 3)]
    let map = made {
        try FrameMap(owner: 1, model: kind, pfnLimit: limit, frameLimit: limit, ownFrames: own, tableLimit: 64)
    }
    var model = MapModel(ownFrames: own)
    for _ in 0..<60 where !input.isAtEnd {
        call(map, &model, base, limit, &input)
        for change in model.changes.suffix(4) {
            for pfn in [change.range.lowerBound, change.range.upperBound, (change.range.lowerBound + change.range.upperBound) / 2] {
                check(map, model, pfn)
                if pfn > 0 { check(map, model, pfn - 1) }
            }
        }
    }
    require(map.audit().inconsistent.isEmpty, "a frame does not come back")
}

private func check(_ map: FrameMap, _ model: MapModel, _ pfn: UInt64) {
    let wanted = model.frame(pfn)
    let found = map.translate(Pfn(rawValue: pfn), pages: 3)
    require(found?.frame.rawValue == wanted?.frame, "\(pfn): \(String(describing: found)), not \(String(describing: wanted))")
    require(found?.permissions == wanted?.permissions, "\(pfn): \(String(describing: found)), not \(String(describing: wanted))")
    if let wanted {
        require(map.pfn(of: BusFrame(rawValue: wanted.frame))?.pfn.rawValue == pfn, "\(pfn) does not come back")
    }
}

private func call(
    _ map: FrameMap, _ model: inout MapModel, _ base: UInt64, _ limit: UInt64, _ input: inout ByteReader
) {
    let code = input.byte()
    let pfn = base &+ input.page(limit - base)
    let pages = input.count()
    let frame = code & 8 == 0 ? pfn : base &+ input.page(limit - base)
    let permissions = FramePermissions(rawValue: input.byte() & 3)
    guard let range = FrameRange(Pfn(rawValue: pfn), count: UInt64(bitPattern: Int64(pages))) else { return }
    let isInside = range.end <= limit
    func took(_ what: Change.What) {
        require(isInside, "changed beyond the limit: \(range)")
        if range.count > 0 { model.changes.append(Change(what: what, range: pfn..<range.end, permissions: permissions)) }
    }
    do throws(FrameMapError) {
        switch code & 7 {
        case 0, 1:
            try map.map(range, to: BusFrame(rawValue: frame), permissions)
            took(.mapped(frame: frame))
        case 2:
            try map.mapIdentity(range, permissions)
            took(.identity)
        case 3:
            try map.setPermissions(range, permissions)
            took(.permissions)
        case 4:
            try map.unmap(range)
            took(.hole)
        case 5:
            try map.balloonOut(range)
            took(.ballooned)
        case 6:
            let frames = (0..<UInt64(code >> 4)).map { BusFrame(rawValue: frame &+ $0 &* 3) }
            let token = try map.mapForeign(range, to: frames, of: 2, permissions)
            require(isInside && frames.count == Int(range.count), "\(frames.count) frames for \(range)")
            token.unmap()
        default:
            _ = map.translate(Pfn(rawValue: pfn), pages: UInt64(bitPattern: Int64(pages)))
            _ = map.pfn(of: BusFrame(rawValue: frame))
            check(map, model, pfn)
        }
    } catch { require(!error.description.isEmpty, "an error without words") }
}
