// Which disks can be traced now: told whenever there are others, or they have other queues.

import DeviceTrace
import Synchronization
import XenBus

/// The disks of one backend, for tracers.
final class DiskTraces: Sendable {
    let registry = TraceRegistry(of: .disk)
    /// The queues that were told of last, by device.
    private let known = Mutex<[DeviceID: [ObjectIdentifier]]>([:])

    /// These are all the disks there are.
    func update(_ disks: [ServedDisk]) {
        known.withLock { known in
            for gone in Set(known.keys).subtracting(disks.map(\.id)) {
                known[gone] = nil
                registry.gone(gone)
            }
            for disk in disks {
                let queues = disk.queues.map { ObjectIdentifier($0.queue) }
                guard known[disk.id] != queues else { continue }
                known[disk.id] = queues
                let id = disk.id
                registry.opened(
                    id,
                    TraceSubject(
                        name: "vbd\(id.frontend).\(id.number)",
                        description: "domain \(id.frontend)'s disk \(id.number), on \(disk.name)"))
                registry.connected(id, queues.isEmpty ? nil : disk.trace)
            }
        }
    }
}

extension ServedDisk {
    /// Has its queues tell `taps` of every request.
    fileprivate func trace(_ taps: [TraceTap]) {
        for (number, (queue, reactor)) in queues.enumerated() { reactor.post { queue.trace(taps, queue: number) } }
    }
}
