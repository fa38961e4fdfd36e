// What a dead backend's journals say of a device's rings.

import BlockBackend
import CommandSupport
import DeviceControl
import LinuxSystem
import NetworkBackend

enum DeadRings {
    /// A device's rings as its backend left them; none: it left nothing.
    /// - Parameter directory: the host's; a pair has its journals in a folder of it, and on Xen they have their own
    ///   place.
    static func find(_ device: String, in directory: RunDirectory) -> [RingReport] {
        guard let subject = DeviceSubject(device) else { return [] }
        let places = [directory.path, "\(directory)/journal"] + (RunDirectory.isOnXen ? ["/run/causeway"] : [])
        for place in places {
            let found = rings(of: subject, in: place)
            if !found.isEmpty { return found }
        }
        return []
    }

    private static func rings(of subject: DeviceSubject, in directory: String) -> [RingReport] {
        let prefix = "\(subject.kind)-\(subject.domain)-\(subject.number)-"
        let queues = FileSystem.names(in: directory).compactMap { name in
            name.hasPrefix(prefix) && name.hasSuffix(".journal")
                ? Int(name.dropFirst(prefix.count).dropLast(".journal".count)) : nil
        }
        return queues.sorted().flatMap { queue -> [RingReport] in
            let path = "\(directory)/\(prefix)\(queue).journal"
            return switch subject.kind {
            case "vbd": BlockJournalReport.rings(path, queue: queue)
            case "vif": InterfaceJournalReport.rings(path, queue: queue)
            default: []
            }
        }
    }
}
