// Both taps of a pair and the namespace of one, held while backends and frontends come and go.

import LinuxSystem
import NetworkDevices

/// Why taps could not be made, or not be put where they belong.
public enum TapKeeperError: Error, Equatable, Sendable, CustomStringConvertible {
    /// A tap could not be had.
    case tap(TapError, namespace: String?)
    /// There is no namespace of this name now.
    case namespace(String, Errno)
    /// The front tap is there; a setting of it failed.
    case setting(interface: String, namespace: String, Errno)

    /// `eth0 in guest: Operation not permitted`.
    public var description: String {
        switch self {
        case .tap(let error, nil): "\(error)"
        case .tap(let error, let namespace?): "\(error.name) in \(namespace): \(error)"
        case .namespace(let name, let reason): "namespace \(name): \(reason)"
        case .setting(let interface, let namespace, let reason): "\(interface) in \(namespace): \(reason)"
        }
    }
}

/// A backend's tap here, and a frontend's in a namespace of its own. The taps are not persistent: they go with this
/// value or its process, and the namespace's name goes with this value.
public struct TapKeeper: ~Copyable {
    private let namespace: String
    private let back: TapDevice?
    private let front: TapDevice

    /// Makes the tap `back` here, then the namespace, into which the calling thread moves for good, and in it the tap
    /// `front`, up, with its address and size. The process should have no other thread: each stays where it is.
    /// - Parameters:
    ///   - back: nil where the backend needs none.
    ///   - namespace: as `ip netns` has it; what is made is undone on failure.
    ///   - mtu: bytes.
    public init(
        back: String?, front: String, namespace: String, address: MACAddress, mtu: Int
    ) throws(TapKeeperError) {
        let backTap: TapDevice?
        do throws(TapError) { backTap = try back.map { name throws(TapError) in try TapDevice(name: name, role: .keeper) } } catch {
            throw .tap(error, namespace: nil)
        }
        // One of a single queue was there before and stays; its queue is the backend's.
        let isOthers = backTap.map { $0.mostQueues == 1 } ?? false
        do throws(Errno) { try NetworkNamespace.make(namespace) } catch { throw .namespace(namespace, error) }
        let frontTap: TapDevice
        do throws(TapKeeperError) { frontTap = try Self.makeFront(front, namespace, address, mtu) } catch {
            NetworkNamespace.remove(namespace)
            throw error
        }
        self.namespace = namespace
        self.back = isOthers ? nil : backTap
        self.front = frontTap
    }

    deinit { NetworkNamespace.remove(namespace) }

    private static func makeFront(
        _ name: String, _ namespace: String, _ address: MACAddress, _ mtu: Int
    ) throws(TapKeeperError) -> TapDevice {
        let tap: TapDevice
        do throws(TapError) { tap = try TapDevice(name: name, role: .keeper) } catch { throw .tap(error, namespace: namespace) }
        do throws(Errno) {
            try HostInterface.setAddress(name, address)
            try HostInterface.setMTU(name, mtu)
            try HostInterface.setUp("lo")
            try HostInterface.setUp(name)
        } catch { throw .setting(interface: name, namespace: namespace, error) }
        return tap
    }
}
