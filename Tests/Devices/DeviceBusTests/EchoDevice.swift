// A device that notes what the bus asks of it.

import DeviceBus
import Synchronization
import TestSupport

final class EchoDevice: BusDevice {
    let about: BusDeviceDescription
    let log = LineCollector()
    private let last = Mutex<EchoEndpoint?>(nil)
    /// Refuses what is asked.
    let refuses = Mutex(false)

    init(_ name: String = "echo", versions: ClosedRange<UInt32> = 1...2, shares: Int = 2, servesMany: Bool = false) {
        about = BusDeviceDescription(name: name, type: "echo", versions: versions, shares: shares, servesMany: servesMany)
    }

    func connect(_ opening: BusOpening) throws(BusRefusal) -> any BusEndpoint {
        if refuses.withLock({ $0 }) { throw BusRefusal("not today") }
        log.add("connect \(opening.version) \(opening.memory.extents.count)")
        let endpoint = EchoEndpoint(self, opening.end)
        last.withLock { $0 = endpoint }
        return endpoint
    }

    /// The newest connection's end.
    var endpoint: EchoEndpoint? { last.withLock { $0 } }
}

final class EchoEndpoint: BusEndpoint {
    private let device: EchoDevice
    let end: @Sendable (String) -> Void
    private let signals = Mutex<[Int: BusSignal]>([:])

    init(_ device: EchoDevice, _ end: @escaping @Sendable (String) -> Void) { (self.device, self.end) = (device, end) }

    func share(_ index: Int, _ area: BusArea?, _ signal: BusSignal?) throws(BusRefusal) {
        if device.refuses.withLock({ $0 }) { throw BusRefusal("not today") }
        device.log.add("share \(index) \(area?.byteCount ?? 0)")
        signals.withLock { $0[index] = signal }
    }

    /// Tells the driver.
    func tell(_ index: Int) { signals.withLock { $0[index] }?.raise() }
    func signal(_ index: Int) { device.log.add("signal \(index)") }

    func call(_ function: UInt32, _ bytes: [UInt8]) throws(BusRefusal) -> [UInt8] {
        if function == 99 { throw BusRefusal("no call 99") }
        return bytes.reversed()
    }

    func close() { device.log.add("close") }
}
