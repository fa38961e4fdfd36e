// A part of a journal that is whole or is not: words, and a checksum of them behind. What a kill tore apart is told
// from what was written; what somebody means to forge is not.

import SharedMemory

/// Tells whole words from torn ones: FNV-1a over words. Each step can be undone, so one changed word is always noticed.
public struct Checksum: Sendable {
    /// Of the words so far.
    public private(set) var value: UInt32 = 2_166_136_261

    /// Of no words.
    public init() {}

    /// One word more.
    public mutating func add(_ word: UInt32) { value = (value ^ word) &* 16_777_619 }
}

/// Words in a journal with their checksum behind them, at a place that nothing else is stored at meanwhile.
public struct ChecksummedWords {
    private let region: SharedRegion
    private let place: Int

    /// The words from byte `place` of `region` on.
    public init(in region: SharedRegion, at place: Int) {
        self.region = region
        self.place = place
    }

    /// Stores them in order, the checksum last.
    /// - Parameter observer: for tests: called after each store.
    public func store(_ words: [UInt32], observer: (@Sendable () -> Void)? = nil) {
        var sum = Checksum()
        for (index, word) in words.enumerated() {
            region.storeReleasing(word, at: place + 4 * index)
            if let observer { observer() }
            sum.add(word)
        }
        region.storeReleasing(sum.value, at: place + 4 * words.count)
        if let observer { observer() }
    }

    /// `count` words; nil if they are not what was stored.
    public func load(count: Int) -> [UInt32]? {
        var (words, sum) = ([UInt32](), Checksum())
        for index in 0..<count {
            words.append(region.loadRelaxed(place + 4 * index))
            sum.add(words[index])
        }
        return region.loadRelaxed(place + 4 * count) == sum.value ? words : nil
    }
}
