// What a backend process says of its disks and interfaces: requests or frames, and how their pages reach the device.

import BlockBackend
import BlockModel
import CommandSupport
import DMA
import Hypervisor
import NetworkBackend
import NetworkFrontend
import Toolstack
import XenTypes

enum DeviceStatus {
    /// The lines of each disk.
    static func lines(_ devices: [BackendDeviceStatus]) -> [StatusLine] {
        devices.flatMap { device in
            let subject = DeviceSubject(kind: "vbd", device: device.device.description)
            var all = lines(subject, DeviceCounter.all, device.queues)
            all += device.failures.map { StatusLine(subject.text, FailureName($0).text, $0.count) }
            all += lines(subject, DeviceCounter.all, device.queues.map(\.memory))
            all.append(StatusLine(subject.text, DeviceReading.target, text: device.disk))
            for kind in BlockLatencyKind.allCases { all += LatencyName.lines(subject.text, "\(kind)", device.latencies[kind]) }
            return all
        }
    }

    /// The same for interfaces.
    static func lines(_ devices: [InterfaceStatus]) -> [StatusLine] {
        devices.flatMap { device in
            let subject = DeviceSubject(kind: "vif", device: device.device.description)
            return lines(subject, DeviceCounter.all, device.queues) + lines(subject, DeviceCounter.backend, [device.drops])
                + lines(subject, DeviceCounter.all, device.queues.map(\.memory))
                + [StatusLine(subject.text, DeviceReading.target, text: device.name)]
        }
    }

    /// The lines of one interface's frontend.
    static func lines<H: Hypervisor>(_ frontend: NetworkFrontend<H>, in domain: DomainID) -> [StatusLine] {
        let subject = DeviceSubject(kind: "netfront", device: "\(domain)/\(frontend.number)")
        return lines(subject, DeviceCounter.all, frontend.statistics) + lines(subject, DeviceCounter.frontend, [frontend.drops])
    }

    private static func lines<Queue>(
        _ subject: DeviceSubject, _ counters: [DeviceCounter<Queue>], _ queues: [Queue]
    ) -> [StatusLine] {
        counters.map { counter in
            StatusLine(subject.text, counter.name, queues.reduce(0) { $0 &+ counter.value($1) })
        }
    }
}

/// Whose numbers they are: `vbd-1/51712`.
struct DeviceSubject: Hashable, Comparable {
    /// `vbd` or `vif`, or `netfront` for the other side of a vif.
    let kind: String
    /// The frontend's domain and the device's number, `1/51712`.
    let device: String

    var text: String { "\(kind)-\(device)" }

    init(kind: String, device: String) {
        self.kind = kind
        self.device = device
    }

    init?(_ text: String) {
        let parts = text.split(separator: "-", maxSplits: 1)
        guard parts.count == 2 else { return nil }
        self.init(kind: String(parts[0]), device: String(parts[1]))
    }

    /// Disks before interfaces, and by number.
    static func < (left: Self, right: Self) -> Bool {
        (left.kind, UInt64(left.domain) ?? 0, UInt64(left.number) ?? 0) < (
            right.kind, UInt64(right.domain) ?? 0, UInt64(right.number) ?? 0
        )
    }

    var domain: String { String(device.split(separator: "/").first ?? "") }
    /// The disk's name in its guest, or the interface's number.
    var vdev: String {
        guard kind == "vbd", let value = UInt32(number), let disk = VirtualDevice(number: value) else { return number }
        return disk.canonicalName
    }
    var number: String { String(device.split(separator: "/").last ?? "") }
}
