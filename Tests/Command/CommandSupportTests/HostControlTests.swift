import CommandSupport
import LinuxSystem
import Loopback
import Synchronization
import TestSupport
import Testing

/// What the command says of a host while guests come and go.
@Suite(.timeLimit(.minutes(1))) struct HostControlTests {
    @Test("domains that go while they are counted are left out; the count is never refused")
    func countedWhileDomainsGo() throws {
        let scratch = try TemporaryDirectory()
        let host = try LoopbackHost(runDirectory: scratch.path, time: .system)
        try host.start()
        defer { host.stop() }
        let control = try LoopbackControl(runDirectory: scratch.path, time: .system)
        let directory = try RunDirectory(scratch.path)
        let done = Mutex(false)
        let churn = try WorkerThread(name: "churn") {
            while !done.withLock({ $0 }) {
                guard let made = try? (0..<8).map({ _ in try control.createDomain() }) else { return }
                for domain in made { try? control.destroyDomain(domain.domain) }
            }
        }
        defer {
            done.withLock { $0 = true }
            churn.join()
        }
        var seen = Set<Int>()
        for _ in 0..<300 {
            let counts = try HostControl.usage(of: directory)
            #expect(counts.first?.domain == nil)
            seen.insert(counts.count)
        }
        #expect(seen.count > 1, "no domain came or went while they were counted")
    }
}
