// Counts that a device brought along from where its like was: they are added to its own wherever these are shown.

import BlockBackend
import DriverRuntime
import NetworkBackend
import Synchronization

/// What was brought along, device by device.
final class CarriedCounters: Sendable {
    private let carried = Mutex<[String: [String: UInt64]]>([:])

    /// Only what grows for as long as a device lives: how many queues it had elsewhere is no matter here.
    private static let totals = Set(
        DeviceCounter<BackendQueueStatistics>.all.filter(\.isTotal).map(\.name)
            + DeviceCounter<NetworkQueueStatistics>.all.filter(\.isTotal).map(\.name))

    /// The lines with what was brought along.
    func added(to lines: [StatusLine]) -> [StatusLine] {
        let carried = carried.withLock { $0 }
        if carried.isEmpty { return lines }
        return lines.map { line in
            guard case .number(let own) = line.value, let more = carried[line.subject]?[line.name] else { return line }
            return StatusLine(line.subject, line.name, own &+ more)
        }
    }

    /// A device's, for whoever looks after it.
    /// - Parameter own: what the process counts of all its devices.
    func counters(of subject: String, _ own: @escaping @Sendable () -> [StatusLine]) -> DeviceCounters {
        DeviceCounters {
            self.added(to: own()).compactMap { line in
                guard line.subject == subject, case .number(let number) = line.value, LatencyName(line.name) == nil else {
                    return nil
                }
                return (line.name, number)
            }
        } carryOver: { counters in
            let totals = counters.filter { Self.totals.contains($0.name) }
            self.carried.withLock { $0[subject] = Dictionary(totals.map { ($0.name, $0.value) }) { $1 } }
        }
    }
}
