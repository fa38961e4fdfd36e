// What drivers of devices with virtqueues have in common: a connection, agreed features, memory that the device may
// reach, and a thread that waits for signals.

import DeviceBus
import LinuxSystem
import SharedMemory
import Synchronization
import VirtioRing
import VirtioWire

/// Why a device cannot be had.
public enum VirtioDriverError: Error, Equatable, CustomStringConvertible {
    /// The bus says so.
    case bus(BusError)
    /// The device is of another type.
    case otherType(device: String, type: String, wanted: String)
    /// The device lacks what the driver cannot do without.
    case lacking(device: String, VirtioFeatures)
    /// Memory, an eventfd or a thread could not be had.
    case system(device: String, Errno)
    /// What was asked for cannot be.
    case unusable(device: String, String)

    /// In one line.
    public var description: String {
        switch self {
        case .bus(let error): "\(error)"
        case .otherType(let device, let type, let wanted): "\(device): is a \(type), not a \(wanted)"
        case .lacking(let device, let features): "\(device): does not offer \(features)"
        case .system(let device, let error): "\(device): memory, an eventfd or a thread: \(error)"
        case .unusable(let device, let words): "\(device): \(words)"
        }
    }
}

/// A driver's connection to a device with virtqueues. Any thread.
package final class VirtioBusDriver: Sendable {
    /// What was agreed on.
    package let features: VirtioFeatures
    /// The memory that the device reaches; its addresses are the offsets in it.
    package let region: SharedRegion
    /// Rung by the device, whichever ring it is about.
    package let call: EventCounter
    package let connection: BusConnection
    private let stop: EventCounter
    private let thread = Mutex<WorkerThread?>(nil)
    private let isEnding = Atomic<Bool>(false)

    /// Opens a device, and agrees on as many of `wanted` as it offers; on all of `needed`, or fails.
    package init(
        _ name: String, type: String, on member: BusMember, byteCount: Int, wanted: VirtioFeatures, needed: VirtioFeatures,
        closed: @escaping @Sendable (String) -> Void
    ) throws(VirtioDriverError) {
        if let found = member.devices.first(where: { $0.name == name }), found.type != type {
            throw .otherType(device: name, type: found.type, wanted: type)
        }
        do throws(Errno) {
            region = try SharedRegion(anonymous: SharedRegion.wholePages(byteCount))
            call = try EventCounter()
            stop = try EventCounter()
        } catch { throw .system(device: name, error) }
        do throws(BusError) {
            connection = try member.open(
                name, memory: try BusMemory([BusMemory.Extent(address: 0, region: region)]), closed: closed)
            let bytes = try connection.call(VirtioCall.features)
            let offered = VirtioFeatures(rawValue: bytes.count == 8 ? WireNumber.read(bytes, at: 0) : 0)
            features = wanted.union(needed).intersection(offered)
            try connection.call(VirtioCall.accept, WireNumber.bytes(features.rawValue))
        } catch { throw .bus(error) }
        guard features.isSuperset(of: needed) else { throw .lacking(device: name, needed.subtracting(features)) }
    }

    /// Bytes of the configuration space.
    package func configuration(byteCount: Int) throws(BusError) -> [UInt8] {
        try connection.call(VirtioCall.readConfiguration, WireNumber.bytes(UInt32(0)) + WireNumber.bytes(UInt32(byteCount)))
    }

    /// Makes a ring at an offset of the memory, and its driver's end.
    package func makeRing(at offset: Int, size: Int) -> SplitDriverRing {
        SplitDriverRing(initialising: VirtqueueAreas(in: region, at: offset, size: size, features: features), features: features)
    }

    /// Bytes that a ring takes.
    package static func byteCount(size: Int) -> Int {
        SharedRegion.wholePages(VirtqueueAreas.byteCount(size: size, features: .eventIndex))
    }

    /// Shares a ring that was made: the device serves it from now on.
    package func share(_ index: Int, at offset: Int, size: Int) throws(BusError) {
        try connection.share(
            index, BusArea(region, at: offset, byteCount: Self.byteCount(size: size), entries: size),
            signal: .descriptor(call.descriptor))
    }

    /// Tells the device that there is something in a ring; of one that is closed nobody is told.
    package func kick(_ index: Int) { try? connection.signal(index) }

    /// Starts the thread that waits for the device: `rung` is called on it after each signal.
    package func wait(name: String, _ rung: @escaping @Sendable () -> Void) throws(Errno) {
        let thread = try WorkerThread(name: name) { [self] in
            while !isEnding.load(ordering: .acquiring) {
                // What it throws would be a descriptor that is none, and ends the thread.
                guard (try? waitReadable(call.descriptor.rawValue, stop.descriptor.rawValue, milliseconds: -1)) != nil else {
                    return
                }
                call.take()
                rung()
            }
        }
        self.thread.withLock { $0 = thread }
    }

    /// Ends the connection and the thread. Not on that thread.
    package func close() {
        connection.close()
        isEnding.store(true, ordering: .releasing)
        stop.ring()
        thread.withLock { $0.take() }?.join()
    }
}
