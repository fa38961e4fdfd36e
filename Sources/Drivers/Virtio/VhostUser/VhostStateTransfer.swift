// The two ends of a device's state: out into a front end's descriptor, and in from one. A front end gives what it
// likes: neither waits long, nor takes much.

import DeviceControl
import DeviceState
import Glibc
import LinuxSystem

/// What is between the message that gives a descriptor and the one that asks whether it came about.
struct VhostStateTransfer {
    /// From where a state is to be read; nil: none is.
    private var source: Descriptor?
    private var hasFailed = false

    /// A state's bytes at most.
    private static let mostBytes = 1 << 20
    /// How long the rest of a state may take to come, once the front end has said that it is all there.
    private static let patienceMilliseconds: Int32 = 1000

    /// Writes the state, or makes ready to read one; why not, if it cannot.
    mutating func begin(isLoading: Bool, _ descriptor: Descriptor, _ state: @autoclosure () -> DeviceState) -> String? {
        hasFailed = false
        source = nil
        do throws(Errno) {
            try descriptor.setNonBlocking(true)
            if isLoading {
                source = descriptor
                return nil
            }
            // What does not fit into a pipe is more than any device has.
            let bytes = state().encoded
            guard try descriptor.write(bytes[...]) == bytes.count else { throw .noSpace }
            return nil
        } catch {
            hasFailed = true
            return "its state: \(error)"
        }
    }

    /// Whether what was begun came about; of a state that was to be read: whether it is one of a device like this.
    mutating func check(_ kind: DeviceState.Kind, _ attributes: [DeviceState.Attribute]) -> String? {
        defer { (source, hasFailed) = (nil, false) }
        if hasFailed { return "its state was not written" }
        guard let source else { return nil }
        do throws(Errno) {
            let bytes = try Self.all(of: source)
            let state: DeviceState
            do throws(DeviceStateError) {
                state = try DeviceState(decoding: bytes) { group, number in
                    DevicePropertyKey.knows(group, number) || VhostSession.understands(group, number)
                }
            } catch { return "\(error)" }
            guard state.kind == kind else { return "the state is of a \(state.kind) device, and this is a \(kind) device" }
            return DevicePropertyKey.difference(of: state, from: attributes).map {
                "the state is of another device: its \($0.name) is \($0.saved), and here it is \($0.own ?? "unknown")"
            }
        } catch { return "its state: \(error)" }
    }

    private static func all(of source: Descriptor) throws(Errno) -> [UInt8] {
        var bytes: [UInt8] = []
        while true {
            guard try waitReadable(source.rawValue, milliseconds: patienceMilliseconds) else { throw Errno(ETIMEDOUT) }
            let more = try StreamSocket.receive(source.rawValue, capacity: 65536, wait: true)
            if more.isEmpty { return bytes }
            bytes += more
            guard bytes.count <= mostBytes else { throw Errno(EFBIG) }
        }
    }
}
