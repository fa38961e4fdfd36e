// What a map should be, as slowly and obviously as can be.

import FrameMaps

/// An array of what stands at each pfn.
struct SlowMap {
    enum Place: Equatable {
        case nothing, ballooned
        case page(UInt64, FramePermissions, foreign: Bool, identity: Bool)

        var hasPage: Bool { if case .page = self { true } else { false } }
        var isForeign: Bool { if case .page(_, _, true, _) = self { true } else { false } }
    }
    var places: [Place]

    /// `limit` pfns, the first `own` of them with the frames of the same number.
    init(limit: UInt64, own: UInt64) {
        places = (0..<limit).map { $0 < own ? .page($0, .readWrite, foreign: false, identity: false) : .nothing }
    }

    func frame(_ index: UInt64) -> UInt64? {
        if case .page(let frame, _, _, _) = places[Int(index)] { frame } else { nil }
    }

    /// All pfns by frame.
    func holders() -> [UInt64: [UInt64]] {
        var result: [UInt64: [UInt64]] = [:]
        for index in places.indices {
            if let frame = frame(UInt64(index)) { result[frame, default: []].append(UInt64(index)) }
        }
        return result
    }

    subscript(range: Range<UInt64>) -> [Place] { range.map { places[Int($0)] } }

    /// Puts the same at each pfn.
    mutating func fill(_ range: Range<UInt64>, _ place: Place) { for index in range { places[Int(index)] = place } }

    mutating func setPermissions(_ range: Range<UInt64>, _ permissions: FramePermissions) {
        for index in range {
            if case .page(let frame, _, let foreign, let identity) = places[Int(index)] {
                places[Int(index)] = .page(frame, permissions, foreign: foreign, identity: identity)
            }
        }
    }
}
