// One direction of a cable in memory: frames in a ring, from the one end's reactor thread to the other's. No system
// call while both are awake.

import LinuxSystem
import Packets
import SharedMemory
import Synchronization

/// Frames on their way to one end of a link. `reserve`, `commit` and `tell` are the sender's thread's, the rest the
/// receiver's.
final class LinkDirection: @unchecked Sendable {
    /// Bytes of frames on their way at most. Sixteen of the largest: a burst of what TCP has under way fits.
    static let capacity = 1 << 20
    /// Before each frame: what is left to do in it.
    static let header = 16

    /// Readable when there may be frames.
    let framesBell: Descriptor
    /// Not writable while a sender waits for room: its count is then the highest there is.
    let roomBell: Descriptor
    /// The frames, for a successor of this process.
    private let memory: Descriptor
    private let region: SharedRegion
    private var writer: RecordWriter
    private var reader: RecordReader
    private let hasRung = Atomic<Bool>(false)

    init() throws(Errno) {
        framesBell = try EventCounter().descriptor
        roomBell = try EventCounter().descriptor
        let byteCount = RecordRing.byteCount(capacity: Self.capacity)
        memory = try SealedMemory("cable", byteCount: byteCount, final: true).descriptor
        region = try SharedRegion(mapping: memory, byteCount: byteCount, writable: true)
        writer = RecordWriter(region)
        reader = RecordReader(region)
    }

    /// How many descriptors one direction lives on by.
    static let lifelineCount = 3
    /// See `NetworkDevice.lifeline`.
    var lifeline: [Descriptor] { [memory, framesBell, roomBell] }

    /// Goes on with a predecessor's, with the frames that are on their way.
    init(resuming lifeline: ArraySlice<Descriptor>) throws(Errno) {
        let byteCount = RecordRing.byteCount(capacity: Self.capacity)
        guard lifeline.count == Self.lifelineCount, let memory = lifeline.first,
            SealedMemory.isSealed(memory, byteCount: byteCount)
        else { throw .invalidArgument }
        self.memory = memory
        framesBell = lifeline[lifeline.startIndex + 1]
        roomBell = lifeline[lifeline.startIndex + 2]
        region = try SharedRegion(mapping: memory, byteCount: byteCount, writable: true)
        writer = RecordWriter(resuming: region)
        reader = RecordReader(resuming: region)
        // A predecessor may have rung and not taken it back: whoever finds nothing clears the bell.
        hasRung.store(true, ordering: .relaxed)
    }

    // MARK: Sending

    /// Where a frame of `byteCount` bytes may be written; nil, having left word that room is wanted, if there is none.
    func reserve(_ byteCount: Int, _ offload: FrameOffload) -> (region: SharedRegion, offset: Int)? {
        let count = Self.header + byteCount
        guard let offset = writer.reserve(count) ?? reserveAfterRequest(count) else { return nil }
        region.store(offload.checksum?.start ?? 0, at: offset)
        region.store(offload.checksum?.field ?? 0, at: offset + 2)
        region.store(offload.segmentation?.size ?? 0, at: offset + 4)
        region.store(offload.segmentation?.headerCount ?? 0, at: offset + 6)
        region.store(offload.segmentation?.type.rawValue ?? 0, at: offset + 8)
        let bits: UInt8 = (offload.checksum == nil ? 0 : 1) | (offload.isValidated ? 2 : 0)
        region.store(bits, at: offset + 9)
        return (region, offset + Self.header)
    }

    private func reserveAfterRequest(_ count: Int) -> Int? {
        // First the bell that a receiver will clear, then the word that makes it do so.
        roomBell.addCount(.max - 1)
        writer.requestRoom()
        return writer.reserve(count)
    }

    /// Whether so many bytes in so many frames would find room.
    func hasRoom(frames: Int, byteCount: Int) -> Bool {
        if writer.hasRoom(records: frames, byteCount: byteCount + frames * Self.header) { return true }
        return reserveAfterRequest(0) != nil && writer.hasRoom(records: frames, byteCount: byteCount + frames * Self.header)
    }

    /// Publishes the frame that was reserved last.
    func commit() { writer.commit() }

    /// Wakes the receiver if it sleeps.
    func tell() {
        guard writer.takeReaderRequest() else { return }
        framesBell.addCount(1)
        // Afterwards: a receiver that saw this before the ring would find nothing to take back, and the bell would ring
        // for ever.
        hasRung.store(true, ordering: .releasing)
    }

    // MARK: Receiving

    /// The oldest frame; nil, having left word that frames are wanted, if there is none.
    func next() -> (region: SharedRegion, offset: Int, byteCount: Int, FrameOffload)? {
        while true {
            if let (offset, count) = reader.next() {
                guard count >= Self.header else {
                    reader.release()
                    continue
                }
                return (region, offset + Self.header, count - Self.header, offload(offset))
            }
            if hasRung.exchange(false, ordering: .acquiring) { framesBell.takeCount() }
            if !reader.requestRecords() { return nil }
        }
    }

    private func offload(_ offset: Int) -> FrameOffload {
        var offload = FrameOffload()
        let bits: UInt8 = region.load(offset + 9)
        if bits & 1 != 0 { offload.checksum = .init(start: region.load(offset), field: region.load(offset + 2)) }
        offload.isValidated = bits & 2 != 0
        if let type = SegmentationType(rawValue: region.load(offset + 8)) {
            offload.segmentation = .init(type: type, size: region.load(offset + 4), headerCount: region.load(offset + 6))
        }
        return offload
    }

    /// Gives back the frame that `next` found.
    func release() {
        reader.release()
        answerRoomRequest()
    }

    /// Throws everything away that is on its way.
    func discardAll() {
        reader.discardAll()
        answerRoomRequest()
    }

    private func answerRoomRequest() {
        if reader.takeWriterRequest() { roomBell.takeCount() }
    }
}
