// A device with virtqueues on a bus. It is the one that serves vhost-user front ends, and cannot tell the difference:
// a driver in this process shares its rings and its memory as they are mapped, where a front end sends descriptors.

import DeviceBus
import LinuxSystem
import SharedMemory
import Synchronization
import VhostUser
import VirtioRing
import VirtioWire

/// The calls of a device with virtqueues. Numbers are little-endian.
public enum VirtioCall {
    /// Reads the features that are offered: le64.
    public static let features: UInt32 = 0
    /// Accepts features, before any ring is shared: le64.
    public static let accept: UInt32 = 1
    /// Reads the configuration space: le32 offset, le32 count; the answer may be shorter.
    public static let readConfiguration: UInt32 = 2
    /// Writes it: le32 offset, then the bytes.
    public static let writeConfiguration: UInt32 = 3
    /// Has the device look whether something about it has changed; then its configuration is signalled.
    public static let look: UInt32 = 4
}

/// Puts a device with virtqueues on a bus, which has it to itself: no front end is served by the same device meanwhile.
/// One driver may open it at a time. Its shares are its rings, in order, and
/// behind them one without memory, by which a change of the configuration space is signalled.
public final class VirtioBusDevice: BusDevice {
    /// See `BusDevice.about`.
    public let about: BusDeviceDescription
    private let device: any VhostDevice

    /// - Parameters:
    ///   - name: on its bus.
    ///   - type: such as `virtio-block`.
    public init(_ device: any VhostDevice, name: String, type: String) {
        self.device = device
        about = BusDeviceDescription(name: name, type: type, shares: device.offer.rings + 1)
    }

    /// See `BusDevice.connect`.
    public func connect(_ opening: BusOpening) throws(BusRefusal) -> any BusEndpoint {
        try VirtioEndpoint(device, rings: about.shares - 1, opening.memory)
    }
}

/// One driver's connection.
private final class VirtioEndpoint: BusEndpoint {
    private struct State {
        var kicks: [Int: EventCounter] = [:]
        var features: VirtioFeatures?
        var configuration: BusSignal?
    }
    private let device: any VhostDevice
    private let offer: VhostOffer
    private let rings: Int
    /// What the device says by itself comes here, as it would come to a front end.
    private let messages: Descriptor
    private let state = Mutex(State())

    init(_ device: any VhostDevice, rings: Int, _ memory: BusMemory) throws(BusRefusal) {
        self.device = device
        self.rings = rings
        offer = device.offer
        let map: GuestMap
        do throws(VirtqueueError) {
            map = try GuestMap(
                memory.extents.map {
                    GuestMap.Extent(address: $0.address, byteCount: $0.byteCount, region: $0.region, offset: $0.offset)
                })
        } catch { throw BusRefusal("\(error)") }
        let theirs: Descriptor
        do throws(Errno) { (messages, theirs) = try StreamSocket.pair() } catch { throw BusRefusal("a socket: \(error)") }
        do throws(VhostRefusal) {
            _ = try device.perform(.memory(VhostMemory(mapped: map), stopping: []))
            _ = try device.perform(.backendSocket(theirs))
        } catch {
            device.disconnected()
            throw BusRefusal("\(error)")
        }
    }

    func share(_ index: Int, _ area: BusArea?, _ signal: BusSignal?) throws(BusRefusal) {
        if index == rings {
            guard area == nil else { throw BusRefusal("the configuration space is read by calls; it has no memory") }
            return state.withLock { $0.configuration = signal }
        }
        guard let features = state.withLock({ $0.features }) else { throw BusRefusal("features come before rings") }
        guard let area else { throw BusRefusal("ring \(index) has no memory") }
        var call: Descriptor?
        switch signal {
        case .descriptor(let descriptor): call = descriptor
        case .action: throw BusRefusal("ring \(index) is signalled by an eventfd")
        case nil: break
        }
        guard area.entries <= Int(offer.mostEntries), VirtqueueAreas.isSize(area.entries, features.contains(.packedRing)),
            area.offset % 16 == 0, area.region.isWritable,
            VirtqueueAreas.byteCount(size: area.entries, features: features) <= area.byteCount
        else { throw BusRefusal("ring \(index) of \(area.entries) entries cannot be in \(area.byteCount) bytes at \(area.offset)") }
        let areas = VirtqueueAreas(in: area.region, at: area.offset, size: area.entries, features: features)
        let kick: EventCounter
        do throws(Errno) { kick = try EventCounter() } catch { throw BusRefusal("an eventfd: \(error)") }
        do throws(VhostRefusal) {
            let plan = VhostRingPlan(areas: areas, kick: kick.descriptor, call: call, features: features)
            _ = try device.perform(.start(ring: index, plan))
        } catch { throw BusRefusal("\(error)") }
        state.withLock { $0.kicks[index] = kick }
        // What was put into the ring before it was shared is looked at.
        kick.ring()
    }

    func signal(_ index: Int) { state.withLock { $0.kicks[index] }?.ring() }

    func call(_ function: UInt32, _ bytes: [UInt8]) throws(BusRefusal) -> [UInt8] {
        switch function {
        case VirtioCall.features where bytes.isEmpty: return WireNumber.bytes(offer.features.rawValue)
        case VirtioCall.accept where bytes.count == 8:
            try accept(VirtioFeatures(rawValue: WireNumber.read(bytes, at: 0)))
            return []
        case VirtioCall.readConfiguration where bytes.count == 8:
            let (offset, count): (UInt32, UInt32) = (WireNumber.read(bytes, at: 0), WireNumber.read(bytes, at: 4))
            // No configuration space is larger.
            guard offset <= 256, count <= 256 - offset else { throw BusRefusal("no \(count) bytes of configuration at \(offset)") }
            return device.configuration(from: Int(offset), byteCount: Int(count))
        case VirtioCall.writeConfiguration where (4...260).contains(bytes.count):
            let offset: UInt32 = WireNumber.read(bytes, at: 0)
            do throws(VhostRefusal) {
                _ = try device.perform(.writeConfiguration(offset: Int(offset), Array(bytes.dropFirst(4))))
            } catch { throw BusRefusal("\(error)") }
            return []
        case VirtioCall.look where bytes.isEmpty:
            device.idle()
            // The device has one thing to say; how often makes no difference.
            let said = (try? StreamSocket.receive(messages.rawValue, capacity: 4096, wait: false)) ?? []
            if !said.isEmpty { state.withLock { $0.configuration }?.raise() }
            return []
        default: throw BusRefusal("no call \(function) with \(bytes.count) bytes")
        }
    }

    private func accept(_ features: VirtioFeatures) throws(BusRefusal) {
        let unknown = features.subtracting(offer.features)
        guard unknown.isEmpty else { throw BusRefusal("not offered: \(unknown)") }
        try state.withLock { (state) throws(BusRefusal) in
            guard state.kicks.isEmpty else { throw BusRefusal("features come before rings") }
            state.features = features
        }
    }

    func close() {
        device.disconnected()
        state.withLock { $0 = State() }
    }
}
