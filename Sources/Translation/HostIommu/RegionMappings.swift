// Which regions a device reaches: each mapped once, however many of the device's queues have it, and unmapped after the
// last of them. The cold path: a mapping costs a thousand times what looking it up does.

import DMA
import LinuxSystem
import SharedMemory
import Synchronization

/// A device's regions behind one back end; any thread.
public final class RegionMappings: BusAddressSource, CustomStringConvertible {
    private struct State {
        let backEnd: any DMABackEnd
        /// Where it is noted what is where, for a successor; nil: nowhere.
        let book: RegionBook?
        var regions: CountedRegions<BackEndMapping>
    }
    private let state: Mutex<State>
    private let name: String

    /// - Parameters:
    ///   - backEnd: nobody else uses it from now on.
    ///   - book: where it is noted what is where, for a successor; nil: nowhere.
    ///   - name: the device, for the log.
    ///   - log: is told, once, what could not be mapped, or not unmapped.
    public init(
        _ backEnd: sending any DMABackEnd, book: RegionBook? = nil, name: String, log: @escaping @Sendable (String) -> Void
    ) {
        state = Mutex(State(backEnd: backEnd, book: book, regions: CountedRegions(name: name, log: log)))
        self.name = name
    }

    /// See `BusAddressSource`: in one run, wherever its frames are. What can only be read here the device can only
    /// read.
    public func place(_ region: SharedRegion, machine: () -> [UInt64]?) -> BusPlacement? {
        guard let run = MemoryRun(region) else { return nil }
        return state.withLock { state in
            let (backEnd, book) = (state.backEnd, state.book)
            let mapping = state.regions.take(region, orSay: "memory cannot be mapped for it") { () throws(DMABackEndError) in
                try Self.map(run, region, backEnd, book)
            }
            return mapping.map { .contiguous(DeviceAddress(rawValue: $0.address.rawValue)) }
        }
    }

    /// At the address that it had in a predecessor's life, if it had one.
    private static func map(
        _ run: MemoryRun, _ region: SharedRegion, _ backEnd: any DMABackEnd, _ book: RegionBook?
    ) throws(DMABackEndError) -> BackEndMapping {
        let direction: DMADirection = region.isWritable ? .bidirectional : .toDevice
        guard let book, let identity = region.identity else { return try backEnd.map(run, direction) }
        var made: BackEndMapping?
        if let container = backEnd as? VFIOContainer, let wanted = book.address(of: identity, byteCount: run.byteCount) {
            made = try? container.map(run, direction, at: Iova(rawValue: wanted))
        }
        let mapping = if let made { made } else { try backEnd.map(run, direction) }
        book.note(identity, byteCount: run.byteCount, at: mapping.address.rawValue)
        return mapping
    }

    /// Ends what a predecessor had mapped, to which nothing is under way, and keeps its addresses for the same memory.
    public func forgetPredecessor() throws(DMABackEndError) {
        try state.withLock { (state: inout State) throws(DMABackEndError) in
            guard let container = state.backEnd as? VFIOContainer else { return }
            try container.forgetPredecessor()
            state.book?.age()
            for place in state.book?.places ?? [] { container.reserve(place.address, place.byteCount) }
        }
    }

    /// See `BusAddressSource`. A mapping that cannot be ended keeps its memory.
    public func remove(_ region: SharedRegion) {
        state.withLock { state in
            let (backEnd, book) = (state.backEnd, state.book)
            state.regions.giveBack(region, orSay: "memory cannot be taken from it") { mapping throws(DMABackEndError) in
                try backEnd.unmap(mapping)
                if let identity = region.identity { book?.erase(identity, at: mapping.address.rawValue) }
            }
        }
    }

    /// Regions that it reaches.
    public var count: Int { state.withLock { $0.regions.count } }

    /// `0000:00:04.0: 3 regions, vfio-type1 /dev/vfio/12: …`.
    public var description: String { state.withLock { "\(name): \($0.regions.count) regions, \($0.backEnd)" } }
}
