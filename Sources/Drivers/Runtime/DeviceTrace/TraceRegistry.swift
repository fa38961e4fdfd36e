// Who traces which device. Tracers come and go on the tracing service's thread, connections on the control thread; both
// meet here, and the threads of the device's queues are told.

import Synchronization
import XenBus

/// The devices of one kind of one backend, and who reads them.
public final class TraceRegistry: TraceSubjects {
    /// Has a device's queues write to these from now on.
    public typealias Switch = @Sendable ([TraceTap]) -> Void

    private struct Device {
        var subject: TraceSubject
        var queues: Switch?
        var taps: [TraceTap] = []
    }

    private let kind: TraceRequest.Kind
    private let devices = Mutex<[DeviceID: Device]>([:])

    /// No device yet.
    public init(of kind: TraceRequest.Kind) { self.kind = kind }

    /// There is such a device; its tracers, if it has some, stay.
    public func opened(_ device: DeviceID, _ subject: TraceSubject) {
        devices.withLock { $0[device, default: Device(subject: subject)].subject = subject }
    }

    /// Its frontend is connected, or no longer (nil).
    public func connected(_ device: DeviceID, _ queues: Switch?) {
        devices.withLock { all in
            guard var found = all[device] else { return }
            found.queues = queues
            all[device] = found
            if !found.taps.isEmpty { queues?(found.taps) }
        }
    }

    /// It is gone for good.
    public func gone(_ device: DeviceID) {
        let found = devices.withLock { $0.removeValue(forKey: device) }
        for tap in found?.taps ?? [] { tap.end() }
    }

    /// See `TraceSubjects.attach`.
    public func attach(_ tap: TraceTap, to request: TraceRequest) -> TraceSubject? {
        guard request.kind == kind else { return nil }
        return devices.withLock { all in
            let device = DeviceID(frontend: request.domain, number: request.number)
            guard var found = all[device] else { return nil }
            found.taps.append(tap)
            all[device] = found
            found.queues?(found.taps)
            return found.subject
        }
    }

    /// See `TraceSubjects.detach`.
    public func detach(_ tap: TraceTap) {
        devices.withLock { all in
            for (device, found) in all where found.taps.contains(where: { $0 === tap }) {
                var found = found
                found.taps.removeAll { $0 === tap }
                all[device] = found
                found.queues?(found.taps)
            }
        }
    }
}

/// Several kinds of devices of one backend.
public struct TraceRegistries: TraceSubjects {
    private let all: [any TraceSubjects]

    /// All that these have.
    public init(_ all: [any TraceSubjects]) { self.all = all }

    /// See `TraceSubjects.attach`.
    public func attach(_ tap: TraceTap, to request: TraceRequest) -> TraceSubject? {
        for subjects in all { if let found = subjects.attach(tap, to: request) { return found } }
        return nil
    }

    /// See `TraceSubjects.detach`.
    public func detach(_ tap: TraceTap) { for subjects in all { subjects.detach(tap) } }
}
