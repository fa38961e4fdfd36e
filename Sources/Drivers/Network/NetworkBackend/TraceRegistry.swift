// Who traces which interface. Tracers come and go on the tracing service's thread, connections on the control thread;
// both meet here, and the reactor of the interface is told.

import NetworkTrace
import Synchronization
import XenBus
import XenTypes

/// The interfaces of one backend, and who reads them.
final class TraceRegistry: TraceSubjects {
    private struct Interface {
        var subject: TraceSubject
        var engine: InterfaceEngine?
        var taps: [TraceTap] = []
    }

    private let interfaces = Mutex<[DeviceID: Interface]>([:])

    /// There is such an interface; its tracers, if it has some, stay.
    func opened(_ device: DeviceID, _ settings: NetworkSettings, on name: String) {
        let subject = TraceSubject(
            name: "vif\(device.frontend).\(device.number)",
            description: "domain \(device.frontend)'s interface \(device.number), on \(name)", address: settings.address)
        interfaces.withLock { $0[device, default: Interface(subject: subject)].subject = subject }
    }

    /// Its frontend is connected, or no longer (nil).
    func connected(_ device: DeviceID, _ engine: InterfaceEngine?) {
        interfaces.withLock { all in
            guard var interface = all[device] else { return }
            interface.engine = engine
            all[device] = interface
            if !interface.taps.isEmpty { engine?.trace(interface.taps) }
        }
    }

    /// It is gone for good.
    func gone(_ device: DeviceID) {
        let interface = interfaces.withLock { $0.removeValue(forKey: device) }
        for tap in interface?.taps ?? [] { tap.end() }
    }

    func attach(_ tap: TraceTap, domain: DomainID, number: UInt32) -> TraceSubject? {
        interfaces.withLock { all in
            let device = DeviceID(frontend: domain, number: number)
            guard var interface = all[device] else { return nil }
            interface.taps.append(tap)
            all[device] = interface
            interface.engine?.trace(interface.taps)
            return interface.subject
        }
    }

    func detach(_ tap: TraceTap) {
        interfaces.withLock { all in
            for (device, interface) in all where interface.taps.contains(where: { $0 === tap }) {
                var interface = interface
                interface.taps.removeAll { $0 === tap }
                all[device] = interface
                interface.engine?.trace(interface.taps)
            }
        }
    }
}
