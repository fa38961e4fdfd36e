// Journals of guests that went while no backend was there.

import Foundation
import NetworkBackend
import Synchronization
import Testing
import TestSupport

@Suite("Stale journals of interfaces", .timeLimit(.minutes(1))) struct StaleInterfaceJournalTests {
    @Test func areRemovedAtTheStart_andNothingElseIs() throws {
        let scratch = try TemporaryDirectory()
        let stale = [
            "vif-77-0-0.journal", "vif-77-0-1.journal", "vif-77-0-control.journal", "vif-77-0-multicast.journal",
            "vif-78-3-0.journal",
        ]
        // Another kind's, another program's, and records of taps, which are their maker's.
        let others = [
            "vbd-77-51712-0.journal", "vif-x-77-0-0.journal", "vif-77-0.journal", "vif-77-0-other.journal",
            "vif-77-0-0.journal.old",
            "vif-77-0.tap",
        ]
        for name in stale + others { try Data(count: 4096).write(to: URL(fileURLWithPath: "\(scratch.path)/\(name)")) }
        var options = NetworkBackendOptions()
        options.journalDirectory = scratch.path
        let pair = try NetworkPair(options, backendDomain: 3)
        let frontend = try pair.connect()
        // Beside the connection, in no order.
        #expect(
            eventually { pair.backend.log.contains("\(scratch.path): what was left for 2 devices that are no more is removed") })
        let left = try Set(FileManager.default.contentsOfDirectory(atPath: scratch.path))
        #expect(left == Set(others + ["vif-1-0-0.journal", "vif-1-0-control.journal", "vif-1-0-multicast.journal", "vif.lock"]))
        // Those that are in use stay when a successor starts.
        pair.backend.killAtOnce()
        let next = try RunningBackend(pair.host, domain: 3, options, device: pair.backWire.network)
        #expect(eventually { next.log.contains { $0.contains("taken over") } })
        #expect(!next.log.contains { $0.contains("is removed") })
        #expect(frontend.connectionCount == 1)
        frontend.close()
        next.stop()
    }
}
