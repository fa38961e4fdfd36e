// Taking a ring over from a backend that kept a journal of what it had taken: see BlockBackend's RingJournal.

import SharedMemory

extension BackRing {
    /// The index of the next request to be taken (`req_cons`).
    @inlinable @inline(__always) public var nextRequestIndex: RingIndex { consumed }
    /// The index of the next response to be pushed (`rsp_prod_pvt`).
    @inlinable @inline(__always) public var nextResponseIndex: RingIndex { pushed }

    /// Whether a response was pushed and is not shown yet.
    @inlinable @inline(__always) public var hasUnpublished: Bool { pushed != published }

    /// Takes over a ring in use whose requests up to `consumed` were taken and whose responses up to `published` were
    /// shown. What was taken and not answered, `consumed - published` requests, is answered by `push` as usual; the
    /// requests themselves are the caller's.
    /// - Throws: `RingError.notAdoptable` if the shared indices contradict that.
    public init(resuming region: SharedRegion, _ contents: P, consumed: RingIndex, published: RingIndex)
        throws(RingError)
    {
        let geometry = RingGeometry(byteCount: region.byteCount, slotSize: contents.slotSize)
        let asked = RingIndex(region.loadAcquiring(RingHeader.requestProduced))
        let shown = region.loadAcquiring(RingHeader.responseProduced)
        guard shown == published.rawValue, asked - published <= geometry.slotCount,
            consumed - published <= asked - published
        else {
            throw .notAdoptable(requestProduced: asked.rawValue, responseProduced: shown, slots: geometry.slotCount)
        }
        self.init(attaching: region, contents, startingAt: consumed)
        pushed = published
        self.published = published
    }
}
