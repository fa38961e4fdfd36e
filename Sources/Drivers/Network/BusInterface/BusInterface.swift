// A network interface on a bus for a caller in the same process: whole frames out and in, no tap, no socket, no
// hypervisor. Two rings in memory that both have, one signal for both.

import DeviceBus
import LinuxSystem
import SharedMemory
import Synchronization
import VirtioBus
import VirtioRing
import VirtioWire

/// How an interface is to be used.
public struct BusInterfaceOptions: Sendable {
    /// Frames each way at a time, 1 to 256.
    public var depth: Int
    /// Bytes of a frame without its Ethernet header, 68 to 65535.
    public var mtu: Int

    /// Options.
    public init(depth: Int = 64, mtu: Int = 1500) {
        self.depth = depth
        self.mtu = mtu
    }
}

/// Why a frame was not sent.
public enum BusInterfaceError: Error, Equatable, CustomStringConvertible {
    /// So many are on their way already; try again.
    case full(interface: String)
    /// No frame is so long or so short.
    case badFrame(interface: String, byteCount: Int, most: Int)
    /// The interface is gone; why.
    case lost(interface: String, reason: String)

    /// In one line.
    public var description: String {
        switch self {
        case .full(let name): "\(name): as many frames as it takes are on their way"
        case .badFrame(let name, let count, let most): "\(name): a frame of \(count) bytes; it takes 14 to \(most)"
        case .lost(let name, let reason): "\(name): lost: \(reason)"
        }
    }
}

/// An interface that was opened on a bus. Closed when it is let go of. Any thread.
public final class BusInterface: Sendable {
    private let engine: InterfaceEngine

    /// Opens an interface.
    /// - Parameters:
    ///   - member: of the bus that it is on.
    ///   - received: gets each frame that comes, on the interface's own thread; it does not close the interface.
    ///   - closed: is told why when the interface is taken away.
    public init(
        _ name: String, on member: BusMember, _ options: BusInterfaceOptions = BusInterfaceOptions(),
        received: @escaping @Sendable ([UInt8]) -> Void, closed: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(VirtioDriverError) {
        engine = try InterfaceEngine(name, member, options, received, closed)
    }

    deinit { engine.close("its driver let it go") }

    /// What it is called on its bus.
    public var name: String { engine.name }

    /// Sends a frame, from its Ethernet header on. Its bytes are taken before this returns.
    public func send(_ frame: [UInt8]) throws(BusInterfaceError) { try engine.send(frame) }

    /// Ends the connection. Not on the interface's own thread.
    public func close() { engine.close("its driver closed it") }
}
