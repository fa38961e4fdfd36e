// Journals of guests that went while no backend was there.

import BlockBackend
import Foundation
import LinuxSystem
import Testing
import TestSupport

@Suite("Stale journals", .timeLimit(.minutes(1))) struct StaleJournalTests {
    @Test func areRemovedAtTheStart_andNothingElseIs() throws {
        let journals = try TemporaryDirectory()
        let directory = journals.path + "/journal"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let stale = ["vbd-77-51712-0.journal", "vbd-77-51712-1.journal", "vbd-78-51728-0.journal"]
        // Another kind's, another program's, and this kind's lock.
        let others = [
            "vbd-x-77-51712-0.journal", "vbd3-77-51712-0.journal", "vbd-77-51712.journal", "vbd-77-51712-0.journal.old", "notes",
        ]
        for name in stale + others { try Data(count: 4096).write(to: URL(fileURLWithPath: "\(directory)/\(name)")) }
        var options = BlockBackendOptions()
        options.journalDirectory = directory
        let pair = try BlockPair(backendOptions: options, backendDomain: 3)
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        #expect(try queue.perform(.read, byteCount: 4096) == .okay)
        let left = try Set(FileManager.default.contentsOfDirectory(atPath: directory))
        #expect(left == Set(others + ["vbd-1-51712-0.journal", "vbd.lock"]))
        #expect(pair.backend.log.contains("\(directory): what was left for 2 devices that are no more is removed"))
        // One that is in use stays when a successor starts.
        pair.backend.stop()
        let next = try RunningBackend(pair.host, domain: 3, options)
        #expect(try queue.perform(.read, byteCount: 4096) == .okay)
        #expect(!next.log.contains { $0.contains("is removed") })
        frontend.close()
        next.stop()
    }
}
