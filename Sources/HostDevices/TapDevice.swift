// A tap: an Ethernet interface of the host whose wire is this process. Made on demand and gone with its last descriptor, so that a
// killed process leaves nothing; one that somebody else keeps is joined and stays.

import CLinux
import DMA
import Glibc
import LinuxSystem
import Packets
import XenWire

/// A tap of this host, in the network namespace of the threads that use it.
public final class TapDevice: NetworkDevice {
    /// What it is called in messages.
    public let name: String
    /// Keeps the interface, its addresses and its place in a bridge while no queue is open. A detached queue: the kernel spreads
    /// traffic over attached ones only.
    private let keeper: Descriptor

    /// Opens `name`, which is made if there is none.
    /// - Parameter outlives: whether the interface stays when this process ends, with its addresses, routes and place in a bridge, until
    ///   `retire` is called: for a backend whose successor goes on.
    public init(name: String, outlives: Bool = false) throws(DeviceError) {
        self.name = name
        do throws(Errno) {
            keeper = try Self.open(name)
            if outlives { _ = try retryingInterrupts { causeway_tap_persist(keeper.rawValue, 1) } }
            _ = try retryingInterrupts { causeway_tap_attach_queue(keeper.rawValue, 0) }
        } catch {
            throw .system(
                name: "tap \(name)", doing: error.rawValue == EINVAL ? "join it as one of several queues" : "open it", error)
        }
    }

    /// What the interface is called now: a hot-plug script may have renamed it (`vifname`).
    private var currentName: String {
        var bytes = [CChar](repeating: 0, count: 16)
        guard unsafe causeway_tap_name(keeper.rawValue, &bytes) == 0 else { return name }
        return String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Sets the interface's carrier, as its users see it.
    public func setCarrier(_ isUp: Bool) throws(Errno) {
        _ = try retryingInterrupts { causeway_tap_carrier(keeper.rawValue, isUp ? 1 : 0) }
    }

    /// Lets the interface go with its last descriptor.
    public func retire() { _ = causeway_tap_persist(keeper.rawValue, 0) }

    private static func open(_ name: String) throws(Errno) -> Descriptor {
        let raw = unsafe causeway_tap_open(name)
        if raw < 0 { throw Errno.current }
        return Descriptor(owning: raw)
    }

    /// Bytes of payload in a frame, as the interface has it now.
    public var mtu: Int {
        let value = unsafe causeway_interface_mtu(currentName)
        return value > 0 ? Int(value) : 1500
    }

    /// Sets what frames it may be given whole; see `NetworkDevice`.
    public func setOffloads(_ offloads: OffloadSet) throws(Errno) {
        // The kernel wants blank checksums allowed before large frames; both may then come with congestion marks.
        var flags = offloads.contains(.checksum) ? offloads.rawValue & 7 : 0
        if flags & 6 != 0 { flags |= 8 }
        _ = try retryingInterrupts { causeway_tap_offload(keeper.rawValue, flags) }
    }

    /// Opens one more queue; see `NetworkDevice`.
    public func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue {
        try FrameQueue(Self.open(currentName), bus)
    }
}

/// An interface's settings, in the namespace of the calling thread.
public enum HostInterface {
    /// Whether there is an interface of this name in this namespace.
    public static func exists(_ name: String) -> Bool { unsafe causeway_interface_exists(name) != 0 }

    /// Its Ethernet address; while the interface is down, to be safe.
    public static func setAddress(_ name: String, _ address: MACAddress) throws(Errno) {
        let bytes = address.bytes
        _ = try retryingInterrupts { unsafe causeway_interface_set_address(name, bytes) }
    }

    /// Sets an interface's MTU, bytes.
    public static func setMTU(_ name: String, _ mtu: Int) throws(Errno) {
        _ = try retryingInterrupts { unsafe causeway_interface_set_mtu(name, Int32(clamping: mtu)) }
    }

    /// Sets an interface up or down.
    public static func setUp(_ name: String, _ isUp: Bool = true) throws(Errno) {
        _ = try retryingInterrupts { unsafe causeway_interface_set_up(name, isUp ? 1 : 0) }
    }

    /// Makes it a port of a bridge; nothing happens if it is one already.
    public static func join(_ name: String, bridge: String) throws(Errno) {
        _ = try retryingInterrupts { unsafe causeway_bridge_add(bridge, name) }
    }
}
