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
        var entries: [ObjectIdentifier: Entry] = [:]
        /// What has been told of, so that it is told once.
        var lastComplaint = ""
    }
    private let state: Mutex<State>
    private let name: String
    private let log: @Sendable (String) -> Void

    /// - Parameters:
    ///   - backEnd: nobody else uses it from now on.
    ///   - name: the device, for the log.
    ///   - log: is told, once, what could not be mapped, or not unmapped.
    public init(_ backEnd: sending any DMABackEnd, name: String, log: @escaping @Sendable (String) -> Void) {
        state = Mutex(State(backEnd: backEnd))
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
                let mapping = try state.backEnd.map(run, region.isWritable ? .bidirectional : .toDevice)
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
