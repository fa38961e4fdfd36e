// Frames by hand: a network device whose wire is in memory, and whose other end is the program itself. For those who
// test or build a driver and have no tap, and no right to make one.

import Glibc
import LinuxSystem
import Packets

/// Why a frame could not be sent or received.
public enum FramePortError: Error, Hashable, Sendable, CustomStringConvertible {
    /// No frame has so many bytes; a port takes 1 to `FramePort.mostBytes`.
    case badLength(String, Int)
    /// The driver took nothing for so long, and the wire is full.
    case full(String, waited: Duration)
    /// What the driver left undone makes no sense: segments of no known kind or of no size.
    case badOffload(String)
    /// The system refused: what was being done, and its reason.
    case system(String, doing: String, Errno)

    /// `port: 70000 bytes are no frame; at most 65535 are`.
    public var description: String {
        switch self {
        case .badLength(let name, let count): "\(name): \(count) bytes are no frame; 1 to \(FramePort.mostBytes) are"
        case .full(let name, let waited): "\(name): the wire has been full for \(waited); is a driver connected?"
        case .badOffload(let name): "\(name): a frame was to be cut into segments of no known kind or size"
        case .system(let name, let doing, let error): "\(name): cannot \(doing): \(error)"
        }
    }
}

/// A frame that a driver gave to its device, and the work that it left to it.
public struct PortFrame: Hashable, Sendable {
    /// From the destination's address to the payload's end; no frame check sequence.
    public var bytes: [UInt8]
    /// What a real interface would have to do before the wire: fill in a checksum, cut into segments.
    public var offload: FrameOffload

    /// A frame with nothing left undone, unless it is said.
    public init(_ bytes: [UInt8], offload: FrameOffload = FrameOffload()) {
        self.bytes = bytes
        self.offload = offload
    }
}

/// A network device in memory. Give `device` to a `NetworkFrontend` or to a network backend's opener; then `send` is
/// what arrives from the wire, and `receive` what the driver puts on it.
///
/// Frames stay whole and in order. The wire is a pair of sockets and holds what the system lets those hold
/// (`net.unix.max_dgram_qlen` frames, `net.core.wmem_max` bytes) each way; then `send` waits, and so does the driver.
/// All calls may come from any thread; two threads that receive share the frames.
public final class FramePort: Sendable {
    /// The most bytes of one frame.
    public static let mostBytes = 65_535

    /// For messages; also the device's name.
    public let name: String
    /// What the driver uses.
    public let device: SocketNetwork
    private let end: Descriptor
    private let time: any TimeSource

    /// A port whose device says that it has an MTU of `mtu` bytes; the port itself takes longer frames, too. Its time
    /// limits go by `time`.
    public init(name: String = "port", mtu: Int = 1500, time: some TimeSource) throws(FramePortError) {
        self.name = name
        self.time = time
        let ends: (Descriptor, Descriptor)
        do throws(Errno) { ends = try DatagramSocket.pair(bufferBytes: 4 << 20) } catch {
            throw .system(name, doing: "make a pair of sockets", error)
        }
        end = ends.0
        device = SocketNetwork(name: name, end: ends.1, mtu: mtu)
    }

    /// Puts `bytes` on the wire: the driver finds a frame to receive.
    /// - Parameters:
    ///   - bytes: 1 to `mostBytes`; drivers drop what is shorter than an Ethernet header, which is 14.
    ///   - offload: what is left undone in it, as a tap would say. Ask `device.offloads` what the driver's peer can
    ///     take.
    ///   - timeout: how long to wait for room.
    public func send(
        _ bytes: [UInt8], offload: FrameOffload = FrameOffload(), timeout: Duration = .seconds(1)
    ) throws(FramePortError) {
        guard (1...Self.mostBytes).contains(bytes.count) else { throw .badLength(name, bytes.count) }
        let datagram = VirtioHeader(offload).bytes + bytes
        let start = time.nanoseconds
        while true {
            do throws(Errno) {
                _ = try end.write(datagram[...])
                return
            } catch {
                // A full queue says the one, a full buffer the other.
                guard error.rawValue == EAGAIN || error.rawValue == ENOBUFS else {
                    throw .system(name, doing: "send \(bytes.count) bytes", error)
                }
                let left = timeout - .nanoseconds(time.nanoseconds - start)
                guard left > .zero else { throw .full(name, waited: timeout) }
                _ = try? waitWritable(end.rawValue, milliseconds: Self.milliseconds(left))
            }
        }
    }

    /// The next frame that the driver gave to its device; nil if there was none within `timeout`.
    public func receive(timeout: Duration = .seconds(1)) throws(FramePortError) -> PortFrame? {
        let start = time.nanoseconds
        var buffer = [UInt8](repeating: 0, count: VirtioHeader.size + Self.mostBytes + 1)
        while true {
            do throws(Errno) {
                let count = try end.read(into: &buffer)
                if count > VirtioHeader.size {
                    guard let offload = VirtioHeader(buffer[..<VirtioHeader.size]).offload else { break }
                    return PortFrame(Array(buffer[VirtioHeader.size..<count]), offload: offload)
                }
            } catch {
                guard error.rawValue == EAGAIN else { throw .system(name, doing: "receive", error) }
                let left = timeout - .nanoseconds(time.nanoseconds - start)
                guard left > .zero else { return nil }
                do throws(Errno) { _ = try waitReadable(end.rawValue, milliseconds: Self.milliseconds(left)) } catch {
                    throw .system(name, doing: "wait for a frame", error)
                }
            }
        }
        throw .badOffload(name)
    }

    /// Rounded up, so that what is left is waited for in one go; at most a day.
    private static func milliseconds(_ duration: Duration) -> Int32 {
        let (seconds, attoseconds) = duration.components
        return Int32(min(seconds, 86_400) * 1000) + Int32(attoseconds / 1_000_000_000_000_000) + 1
    }
}
