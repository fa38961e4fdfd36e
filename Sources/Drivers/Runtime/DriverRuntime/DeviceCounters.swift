// What a device counts, for whoever looks after it: names and numbers, which whoever shows them has, and which may go
// on from where a device's like elsewhere was.

import DeviceControl
import DeviceState

/// How to read and to carry over a device's counters.
public struct DeviceCounters: Sendable {
    let read: @Sendable () -> [(name: String, value: UInt64)]
    let carryOver: @Sendable ([(name: String, value: UInt64)]) -> Void

    /// - Parameters:
    ///   - read: all of them as of now.
    ///   - carryOver: has what these say added from now on.
    public init(
        read: @escaping @Sendable () -> [(name: String, value: UInt64)],
        carryOver: @escaping @Sendable ([(name: String, value: UInt64)]) -> Void
    ) {
        self.read = read
        self.carryOver = carryOver
    }

    /// As attributes.
    public var attributes: [DeviceState.Attribute] {
        read().enumerated().map { DevicePropertyKey.counter($1.name, $1.value, place: $0) }
    }

    /// Goes on from a saved state's.
    public func load(_ state: DeviceState) {
        carryOver(state.attributes.compactMap { DevicePropertyKey.counter($0) })
    }
}
