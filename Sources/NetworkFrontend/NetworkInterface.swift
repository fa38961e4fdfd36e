// A network interface for programs: whole Ethernet frames sent and received without a tap, a namespace or a kernel's network stack.

import HostDevices
import Hypervisor
import LinuxSystem
import XenBus
import XenStore
import XenWire

/// Why a frame was not sent or received.
public enum NetworkInterfaceError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A frame that no link carries: fewer bytes than an Ethernet header has, or more than the interface's MTU and a header with a VLAN tag.
    case frameSize(Int, allowed: ClosedRange<Int>)
    /// There was no room in time: the backend is away or takes nothing.
    case timedOut
    /// The interface is no more: why.
    case ended(NetworkFrontendError)
    /// A system call failed.
    case system(String)

    /// One line.
    public var description: String {
        switch self {
        case .frameSize(let count, let allowed): "a frame of \(count) bytes, where \(allowed.lowerBound) to \(allowed.upperBound) are allowed"
        case .timedOut: "timed out: the backend takes no frames"
        case .ended(let error): "the interface has ended: \(error)"
        case .system(let text): text
        }
    }
}

/// One vif of this domain, as frames in memory.
///
/// ```swift
/// let hypervisor = try LoopbackHypervisor.connect(runDirectory: "/run/causeway", domain: DomainID(1))
/// let interface = try NetworkInterface(hypervisor: hypervisor, number: 0)
/// try interface.connect()
/// try interface.send(frame)                                   // 14 bytes or more, Ethernet header first
/// while let answer = try interface.receive(timeoutMilliseconds: 1000) { print(answer.count) }
/// interface.close()
/// ```
///
/// Calls block, and any thread may make them; two threads that receive share the frames. Frames carry finished checksums and fit the MTU both
/// ways: the backend is told that nothing else is taken. The interface outlives its backend: while that is away, some frames are kept and
/// the rest wait in `send`.
public final class NetworkInterface<H: Hypervisor>: Sendable {
    /// The driver below: connections, counters, and what went wrong.
    public let frontend: NetworkFrontend<H>
    /// The address that the toolstack gave the interface; nil if it gave none.
    public let address: MACAddress?
    /// Bytes of payload of a frame.
    public let mtu: Int
    private let endpoint: FrameEndpoint

    /// The interface `number` of the hypervisor's domain, whose directory must be there.
    /// - Parameters:
    ///   - options: what to ask for; features beyond several slots a frame are switched off.
    ///   - log: gets one line for each change of the connection.
    public init(
        hypervisor: H, number: UInt32, options: NetworkFrontendOptions = NetworkFrontendOptions(),
        log: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(NetworkFrontendError) {
        var options = options
        options.features.formIntersection(.scatterGather)
        let path = FrontendPath(domain: hypervisor.domain, kind: .network, number: number).path
        do {
            let store = try hypervisor.connectStore()
            defer { store.close() }
            address = try store.text(path + "/mac").flatMap { MACAddress($0) }
            mtu = try store.number(path + "/mtu", in: 68...65_517) ?? 1500
        } catch { throw .negotiation("vif \(number): \(path): \(error)") }
        let link: (device: SocketNetwork, endpoint: FrameEndpoint)
        do throws(Errno) { link = try SocketNetwork.endpoint("vif \(number)", mtu: mtu) } catch {
            throw .negotiation("vif \(number): \(error)")
        }
        endpoint = link.endpoint
        frontend = try NetworkFrontend(hypervisor: hypervisor, number: number, device: link.device, options: options, log: log)
    }

    deinit { frontend.close() }

    /// Starts, and waits until the backend is there.
    public func connect(timeoutMilliseconds: Int32 = 10_000) throws(NetworkFrontendError) {
        try frontend.connect(timeoutMilliseconds: timeoutMilliseconds)
    }

    /// Bytes that a frame may have: an Ethernet header at least, and at most the MTU behind one with a VLAN tag.
    public var frameSizes: ClosedRange<Int> { NetworkProtocol.headerSize...(mtu + NetworkProtocol.headerSize + 4) }

    /// Sends a frame, from its Ethernet header on; the checksums in it must be right.
    /// - Parameter timeoutMilliseconds: how long to wait for room; -1: for ever, 0: not at all.
    public func send(_ frame: [UInt8], timeoutMilliseconds: Int32 = -1) throws(NetworkInterfaceError) {
        guard frameSizes.contains(frame.count) else { throw .frameSize(frame.count, allowed: frameSizes) }
        let deadline = Deadline(timeoutMilliseconds)
        while true {
            if let failure = frontend.failure { throw .ended(failure) }
            do throws(Errno) {
                if try endpoint.send(frame) { return }
                guard let left = deadline.left else { throw Errno(110) }
                // In steps, so that an interface that ends meanwhile is noticed.
                _ = try endpoint.waitForRoom(milliseconds: left)
            } catch { throw error.rawValue == 110 ? .timedOut : .system("\(error)") }
        }
    }

    /// The next frame, from its Ethernet header on; nil if none came in time.
    /// - Parameter timeoutMilliseconds: how long to wait; -1: for ever, 0: not at all.
    public func receive(timeoutMilliseconds: Int32 = -1) throws(NetworkInterfaceError) -> [UInt8]? {
        let deadline = Deadline(timeoutMilliseconds)
        while true {
            do throws(Errno) {
                if let frame = try endpoint.receive() { return frame }
            } catch { throw .system("\(error)") }
            // What came before the end is still handed out.
            if let failure = frontend.failure { throw .ended(failure) }
            guard let left = deadline.left else { return nil }
            do throws(Errno) { _ = try endpoint.waitForFrame(milliseconds: left) } catch { throw .system("\(error)") }
        }
    }

    /// Closes the interface in the proper order and ends its threads.
    public func close() { frontend.close() }
}

/// A point in time to wait for, in steps of at most a quarter of a second.
private struct Deadline {
    private let end: Int64?
    init(_ milliseconds: Int32) { end = milliseconds < 0 ? nil : monotonicMilliseconds() + Int64(milliseconds) }
    /// What to wait for next; nil: it is over.
    var left: Int32? {
        guard let end else { return 250 }
        let rest = end - monotonicMilliseconds()
        return rest > 0 ? Int32(min(rest, 250)) : nil
    }
}
