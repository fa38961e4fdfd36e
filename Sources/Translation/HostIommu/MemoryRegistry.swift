// Memory that a process has for its devices, registered once: each of the devices' spaces maps it, and whoever keeps
// tables of his own about memory (keys of a network card, a table of another library's) is told when some comes or
// goes.

import DMA
import FrameMaps
import Glibc
import LinuxSystem
import SharedMemory
import Synchronization

/// Registered memory, and who is told of it. Any thread; a listener must not call the registry back (`busyHere`).
public final class MemoryRegistry: Sendable, CustomStringConvertible {
    /// What a listener is told.
    public enum Event: UInt32, Sendable {
        /// From now on; a listener that throws refuses it for everybody.
        case registered = 0
        /// The owner takes it back: no more from when the listener returns.
        case unregistered = 1
        /// The memory was, or is about to be, unmapped, moved or discarded by somebody who did not say so. What it
        /// holds is not to be looked at.
        case withdrawn = 2
    }

    /// Who is told. Throws a number of errno to refuse what is being registered; otherwise that is nothing.
    public typealias Listener = @Sendable (Event, SharedRegion) throws(Errno) -> Void

    struct Entry {
        let region: SharedRegion
        var guardian: UserFault?
        var address: UInt64 { region.address }
        var end: UInt64 { region.address + UInt64(region.byteCount) }
    }
    enum Party {
        case space(DeviceSpace)
        case listener(Listener)
    }
    struct State {
        /// By ascending addresses; no two overlap.
        var entries: [Entry] = []
        /// In the order in which they are told of what comes; of what goes in the reverse one.
        var parties: [(id: UInt64, party: Party)] = []
        var nextID: UInt64 = 1
        var withdrawals: [Withdrawal] = []
    }

    let state = Mutex(State())
    /// The thread that holds `state`; 0: none. A thread only ever finds itself here if it is.
    let holder = Atomic<UInt>(0)
    let withdrawn = Atomic<UInt64>(0)
    /// Watches the memory; nil: its owners say when it goes.
    let watch: RegistryWatch?

    /// An empty registry. Throws why memory cannot be watched here.
    /// - Parameter watched: whether memory that its owner unmaps, moves or discards is withdrawn from the devices
    ///   before that is done.
    public init(watched: Bool = false) throws(Errno) {
        watch = watched ? try RegistryWatch() : nil
        try watch?.start(self)
    }

    deinit { close() }

    /// Ends it: nothing is watched any more, and what is registered is taken back. Not from within a listener.
    public func close() {
        watch?.stop()
        try? changing { state in
            for entry in state.entries.reversed() { Self.end(entry, .unregistered, state.parties) }
            state.entries = []
            state.parties = []
        }
    }

    /// Runs a change. Throws `busyHere` from within a listener.
    func changing<R>(_ body: (inout State) throws(RegistryError) -> R) throws(RegistryError) -> R {
        let thread = UInt(pthread_self())
        if holder.load(ordering: .relaxed) == thread { throw .busyHere }
        return try state.withLock { state throws(RegistryError) in
            holder.store(thread, ordering: .relaxed)
            defer { holder.store(0, ordering: .relaxed) }
            return try body(&state)
        }
    }

    /// Registers memory: every space maps it, every listener agrees, or nothing is changed.
    public func register(_ region: SharedRegion) throws(RegistryError) {
        try changing { state throws(RegistryError) in
            let place = Self.place(state.entries, region.address)
            let end = region.address + UInt64(region.byteCount)
            if place < state.entries.count, state.entries[place].address < end {
                throw .overlaps(state.entries[place].region)
            }
            if place > 0, state.entries[place - 1].end > region.address { throw .overlaps(state.entries[place - 1].region) }
            var entry = Entry(region: region)
            do throws(Errno) { entry.guardian = try watch?.guardian(of: region) } catch { throw .unwatched(region, error) }
            var told = 0
            do throws(RegistryError) {
                for (_, party) in state.parties {
                    try Self.begin(region, party)
                    told += 1
                }
            } catch {
                Self.end(entry, .unregistered, Array(state.parties.prefix(told)))
                throw error
            }
            state.entries.insert(entry, at: place)
            watch?.changed()
        }
    }

    /// Takes registrations back: whole ones, one or several side by side.
    public func unregister(_ address: UInt64, byteCount: UInt64) throws(RegistryError) {
        try changing { state throws(RegistryError) in
            let first = Self.place(state.entries, address)
            var (last, reached) = (first, address)
            while last < state.entries.count, state.entries[last].address == reached, reached - address < byteCount {
                reached = state.entries[last].end
                last += 1
            }
            guard byteCount > 0, reached - address == byteCount else {
                if let cut = state.entries.first(where: {
                    $0.address < address ? address < $0.end : $0.address - address < byteCount
                }),
                    cut.address < address || byteCount > 0 && reached - address > byteCount
                {
                    throw .cuts(cut.region)
                }
                throw .notRegistered(address, byteCount: byteCount)
            }
            for entry in state.entries[first..<last].reversed() { Self.end(entry, .unregistered, state.parties) }
            state.entries.removeSubrange(first..<last)
            watch?.changed()
        }
    }

    /// Has a space map all that is registered, now and later. All of it, or nothing.
    public func join(_ space: DeviceSpace) throws(RegistryError) { _ = try add(.space(space)) }

    /// Ends that: what is registered is unmapped there. Throws `notJoined`.
    public func leave(_ space: DeviceSpace) throws(RegistryError) {
        try changing { state throws(RegistryError) in
            let index = state.parties.firstIndex {
                if case .space(let other) = $0.party { other === space } else { false }
            }
            guard let index else { throw .notJoined }
            Self.remove(at: index, &state)
        }
    }

    /// Tells a listener of all that is registered, in the order of addresses, and of what comes and goes. The number by
    /// which it ends.
    public func listen(_ listener: @escaping Listener) throws(RegistryError) -> UInt64 { try add(.listener(listener)) }

    /// Ends it; it is told of all that is registered as if that went. Throws `notJoined`.
    public func endListening(_ id: UInt64) throws(RegistryError) {
        try changing { state throws(RegistryError) in
            guard let index = state.parties.firstIndex(where: { $0.id == id }), case .listener = state.parties[index].party else {
                throw .notJoined
            }
            Self.remove(at: index, &state)
        }
    }

    private func add(_ party: Party) throws(RegistryError) -> UInt64 {
        try changing { state throws(RegistryError) in
            if case .space(let space) = party,
                state.parties.contains(where: { if case .space(let other) = $0.party { other === space } else { false } })
            {
                throw .joined
            }
            let id = state.nextID
            var told = 0
            do throws(RegistryError) {
                for entry in state.entries {
                    try Self.begin(entry.region, party)
                    told += 1
                }
            } catch {
                for entry in state.entries.prefix(told).reversed() { Self.end(entry, .unregistered, [(id, party)]) }
                throw error
            }
            state.nextID += 1
            state.parties.append((id, party))
            return id
        }
    }

    private static func remove(at index: Int, _ state: inout State) {
        let party = state.parties.remove(at: index)
        for entry in state.entries.reversed() { end(entry, .unregistered, [party]) }
    }

    private static func begin(_ region: SharedRegion, _ party: Party) throws(RegistryError) {
        switch party {
        case .space(let space):
            guard let run = MemoryRun(region) else { return }
            do throws(DMABackEndError) { _ = try space.map(run, region.isWritable ? .bidirectional : .toDevice) } catch {
                throw .space(error)
            }
        case .listener(let listener):
            do throws(Errno) { try listener(.registered, region) } catch { throw .refused(region, error) }
        }
    }

    /// Tells in the reverse order. What a space cannot unmap stays mapped there, and locked.
    static func end(_ entry: Entry, _ event: Event, _ parties: [(id: UInt64, party: Party)]) {
        for (_, party) in parties.reversed() {
            switch party {
            case .space(let space): _ = try? space.withdraw(entry.address, byteCount: entry.end - entry.address)
            case .listener(let listener): try? listener(event, entry.region)
            }
        }
    }

    /// How many of them begin below an address.
    static func place(_ entries: [Entry], _ address: UInt64) -> Int {
        var (low, high) = (0, entries.count)
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].address < address { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Registrations, and bytes in all.
    public func size() throws(RegistryError) -> (count: Int, byteCount: UInt64) {
        try changing { state in (state.entries.count, state.entries.reduce(0) { $0 + UInt64($1.region.byteCount) }) }
    }

    /// `3 registrations of 12288 bytes`.
    public var description: String {
        guard let size = try? size() else { return "a registry that is being changed" }
        return "\(size.count) registration\(size.count == 1 ? "" : "s") of \(size.byteCount) bytes"
    }
}

/// Why memory was not registered, or taken back. Nothing was changed.
public enum RegistryError: Error, Sendable, CustomStringConvertible {
    /// Some of it is registered.
    case overlaps(SharedRegion)
    /// It would end a registration in part.
    case cuts(SharedRegion)
    /// Some of it is not registered.
    case notRegistered(UInt64, byteCount: UInt64)
    /// A space could not map it.
    case space(DMABackEndError)
    /// A listener refused it.
    case refused(SharedRegion, Errno)
    /// It cannot be watched.
    case unwatched(SharedRegion, Errno)
    /// The space, or the listener, is there already.
    case joined
    /// It is not there.
    case notJoined
    /// A listener has called the registry that called it.
    case busyHere

    /// In one line.
    public var description: String {
        switch self {
        case .overlaps(let region): "\(Self.words(region)) are registered already"
        case .cuts(let region): "it would cut the registration of \(Self.words(region)), which ends as a whole"
        case .notRegistered(let address, let count):
            "\(count) bytes at 0x\(String(address, radix: 16)) are not registered, or not all of them"
        case .space(let error): "\(error)"
        case .refused(let region, let error): "a listener refused \(Self.words(region)): \(error)"
        case .unwatched(let region, let error):
            "\(Self.words(region)) cannot be watched: \(error) (userfaultfd takes private memory, memfds, shm and hugetlbfs that may be written, of nobody else's watch)"
        case .joined: "the space is in this registry already"
        case .notJoined: "no such space or listener in this registry"
        case .busyHere: "a listener must not call the registry that called it"
        }
    }

    private static func words(_ region: SharedRegion) -> String {
        "\(region.byteCount) bytes at 0x\(String(region.address, radix: 16))"
    }
}
