// A tap: an Ethernet interface of the host whose wire is this process. Made on demand and gone with its last descriptor, so that a
// killed process leaves nothing; one that somebody else keeps is joined and stays.

import CLinux
import DMA
import Glibc
import LinuxSystem
import Packets
import Synchronization
import XenWire

/// A tap of this host, in the namespace of the thread that opened it.
public final class TapDevice: NetworkDevice {
    public let name: String
    /// Each queue has a descriptor of its own, taken by `openQueue`.
    private let queues: Mutex<[Descriptor]>
    /// Keeps the interface, its addresses and its place in a bridge while no queue is open. Carries no traffic.
    private let keeper: Descriptor

    /// Opens `name`, which is made if there is none, for `queueCount` queues.
    public init(name: String, queueCount: Int = 1) throws(DeviceError) {
        self.name = name
        var opened: [Descriptor] = []
        for _ in 0...max(1, queueCount) {
            let raw = unsafe causeway_tap_open(name)
            if raw < 0 {
                let error = Errno.current
                throw .system(name: "tap \(name)", doing: error.rawValue == EINVAL ? "join it as one of several queues" : "open it", error)
            }
            opened.append(Descriptor(owning: raw))
        }
        keeper = opened.removeFirst()
        _ = causeway_tap_attach_queue(keeper.rawValue, 0)
        queues = Mutex(opened)
    }

    public var mtu: Int {
        let value = unsafe causeway_interface_mtu(name)
        return value > 0 ? Int(value) : 1500
    }

    public func setOffloads(_ offloads: OffloadSet) throws(Errno) {
        // The kernel wants blank checksums allowed before large frames; both may then come with congestion marks.
        var flags = offloads.contains(.checksum) ? offloads.rawValue & 7 : 0
        if flags & 6 != 0 { flags |= 8 }
        _ = try retryingInterrupts { causeway_tap_offload(keeper.rawValue, flags) }
    }

    public func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue {
        guard let descriptor = queues.withLock({ $0.popLast() }) else { throw Errno(EMFILE) }
        return FrameQueue(descriptor, bus)
    }
}

/// An interface's settings, in the namespace of the calling thread.
public enum HostInterface {
    public static func exists(_ name: String) -> Bool { unsafe causeway_interface_exists(name) != 0 }

    /// Its Ethernet address; while the interface is down, to be safe.
    public static func setAddress(_ name: String, _ address: MACAddress) throws(Errno) {
        let bytes = address.bytes
        _ = try retryingInterrupts { unsafe causeway_interface_set_address(name, bytes) }
    }

    public static func setMTU(_ name: String, _ mtu: Int) throws(Errno) {
        _ = try retryingInterrupts { unsafe causeway_interface_set_mtu(name, Int32(clamping: mtu)) }
    }

    public static func setUp(_ name: String, _ isUp: Bool = true) throws(Errno) {
        _ = try retryingInterrupts { unsafe causeway_interface_set_up(name, isUp ? 1 : 0) }
    }

    /// Makes it a port of a bridge; nothing happens if it is one already.
    public static func join(_ name: String, bridge: String) throws(Errno) {
        _ = try retryingInterrupts { unsafe causeway_bridge_add(bridge, name) }
    }
}
