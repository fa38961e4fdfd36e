// What goes by a client's clock, with one that nobody waits by.

import LinuxSystem
import Testing
import TestSupport
import XenStore
import XenStoreServer
import XenTypes

@Suite(.timeLimit(.minutes(1)))
struct PauseTests {
    /// A transaction that is always disturbed is tried 16 times; the pauses between double, up to 50 ms, and there is
    /// none at the end.
    @Test func aDisturbedTransactionIsTriedAgainWithGrowingPauses() throws {
        let clock = ManualClock()
        let server = StoreServer(time: .system)
        try server.start()
        defer { server.stop() }
        let (mine, theirs) = try StreamSocket.pair()
        server.attach(descriptor: theirs, domain: .zero)
        let client = try StoreClient(descriptor: mine, time: clock)
        let other = try server.connectInProcess(domain: .zero)
        try client.write("/a", "0")
        var attempts = 0
        #expect(throws: StoreError.conflict(attempts: 16)) {
            try client.transaction { (transaction) throws(StoreError) in
                attempts += 1
                _ = try transaction.read("/a")
                try other.write("/a", "\(attempts)")
                try transaction.write("/a", "mine")
            }
        }
        #expect(attempts == 16)
        #expect(clock.sleeps == [1, 2, 4, 8, 16, 32] + Array(repeating: 50, count: 9))
        #expect(try client.read("/a") == "16")
    }
}
