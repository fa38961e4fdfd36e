// A mark that is in no page by chance: what is painted with it, and found elsewhere, was shown to somebody.

import Foundation
import SharedMemory

/// Eight bytes, over and over.
public struct Canary: Sendable {
    private let word: [UInt8]

    /// Another one for each seed; none of its bytes is zero, and no two are the same.
    public init(_ seed: UInt64) {
        var random = SplitMix(seed)
        word = Array((1...255 as ClosedRange<UInt8>).shuffled(using: &random).prefix(8))
    }

    /// So many bytes of it.
    public func bytes(_ count: Int) -> [UInt8] { (0..<count).map { word[$0 % 8] } }

    /// Text of it, for values that are text: hexadecimal digits.
    public var text: String { word.map { String($0, radix: 16) }.joined(separator: "-") }

    /// Whether six bytes of it that follow each other are anywhere in `bytes`.
    public func isIn(_ bytes: Data) -> Bool {
        let twice = word + word
        return (0..<8).contains { bytes.range(of: Data(twice[$0..<$0 + 6])) != nil } || bytes.range(of: Data(text.utf8)) != nil
    }

    /// The same for memory.
    public func isIn(_ region: SharedRegion) -> Bool { isIn(Data(region.bytes(at: 0, count: region.byteCount))) }

    /// Paints memory.
    public func paint(_ region: SharedRegion) { region.write(bytes(region.byteCount), at: 0) }
}
