// Which regions a device reaches: each mapped once, however many of the device's queues have it, and unmapped after the
// last of them. The cold path: a mapping costs a thousand times what looking it up does.

import DMA
import LinuxSystem
import SharedMemory
import Synchronization

/// A device's regions behind one back end; any thread.
public final class RegionMappings: BusAddressSource, CustomStringConvertible {
    private struct Entry {
        let region: SharedRegion
        let mapping: BackEndMapping
        var count = 1
    }
    private struct State {
        let backEnd: any DMABackEnd
        /// Where it is noted what is where, for a successor; nil: nowhere.
        let book: RegionBook?
        var entries: [ObjectIdentifier: Entry] = [:]
        /// What has been told of, so that it is told once.
        var lastComplaint = ""
    }
    private let state: Mutex<State>
    private let name: String
    private let log: @Sendable (String) -> Void

    /// - Parameters:
    ///   - backEnd: nobody else uses it from now on.
    ///   - book: where it is noted what is where, for a successor; nil: nowhere.
    ///   - name: the device, for the log.
    ///   - log: is told, once, what could not be mapped, or not unmapped.
    public init(
        _ backEnd: sending any DMABackEnd, book: RegionBook? = nil, name: String, log: @escaping @Sendable (String) -> Void
    ) {
        state = Mutex(State(backEnd: backEnd, book: book))
        self.name = name
        self.log = log
    }

    /// See `BusAddressSource`: in one run, wherever its frames are. What can only be read here the device can only
    /// read.
    public func place(_ region: SharedRegion, machine: () -> [UInt64]?) -> BusPlacement? {
        state.withLock { state in
            let key = ObjectIdentifier(region)
            if let entry = state.entries[key] {
                state.entries[key]?.count += 1
                return Self.run(entry.mapping)
            }
            guard let run = MemoryRun(region) else { return nil }
            do throws(DMABackEndError) {
                let mapping = try Self.map(run, region, &state)
                state.entries[key] = Entry(region: region, mapping: mapping)
                return Self.run(mapping)
            } catch {
                complain(&state, "memory cannot be mapped for it: \(Self.words(error))")
                return nil
            }
        }
    }

    private static func run(_ mapping: BackEndMapping) -> BusPlacement {
        .contiguous(DeviceAddress(rawValue: mapping.address.rawValue))
    }

    /// At the address that it had in a predecessor's life, if it had one.
    private static func map(
        _ run: MemoryRun, _ region: SharedRegion, _ state: inout State
    ) throws(DMABackEndError) -> BackEndMapping {
        let direction: DMADirection = region.isWritable ? .bidirectional : .toDevice
        guard let book = state.book, let identity = region.identity else { return try state.backEnd.map(run, direction) }
        var made: BackEndMapping?
        if let container = state.backEnd as? VFIOContainer, let wanted = book.address(of: identity, byteCount: run.byteCount) {
            made = try? container.map(run, direction, at: Iova(rawValue: wanted))
        }
        let mapping = if let made { made } else { try state.backEnd.map(run, direction) }
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
            let key = ObjectIdentifier(region)
            guard let entry = state.entries[key] else { return }
            if entry.count > 1 {
                state.entries[key]?.count -= 1
                return
            }
            do throws(DMABackEndError) {
                try state.backEnd.unmap(entry.mapping)
                if let identity = region.identity { state.book?.erase(identity, at: entry.mapping.address.rawValue) }
                state.entries[key] = nil
            } catch { complain(&state, "memory cannot be taken from it: \(error)") }
        }
    }

    /// Regions that it reaches.
    public var count: Int { state.withLock { $0.entries.count } }

    private func complain(_ state: inout State, _ what: String) {
        if what != state.lastComplaint { log("\(name): \(what)") }
        state.lastComplaint = what
    }

    /// What went wrong, and what to do where the limit of locked memory is in the way.
    static func words(_ error: DMABackEndError) -> String {
        switch error {
        case .lockedMemory: "\(error): raise it (ulimit -l, LimitMEMLOCK= of systemd)"
        case .kernel(_, .noMemory): "\(error): the limit of locked memory may be too low (ulimit -l, LimitMEMLOCK= of systemd)"
        default: "\(error)"
        }
    }

    /// `0000:00:04.0: 3 regions, vfio-type1 /dev/vfio/12: …`.
    public var description: String { state.withLock { "\(name): \($0.entries.count) regions, \($0.backEnd)" } }
}
