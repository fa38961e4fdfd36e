// What is said when a disk fails: on the backend's side, for the frontend only learns that something did.

import BlockDevices
import BlockModel
import BlockProtocol
import DriverRuntime
import LinuxSystem
import MockPeers
import Testing
import ScriptedDevices
import TestSupport
import XenStore

@testable import BlockBackend

@Suite(.timeLimit(.minutes(1))) struct FailureLogTests {
    @Test("a line for each kind and reason, with the last place and the count of the rest; what was told is not told again")
    func lines() {
        var log = FailureLog()
        let full = DiskFailure(kind: .write, reason: .noSpace, sector: 8, count: 1)
        #expect(log.news(of: [[full], []]) == [.init(reason: .noSpace, text: "write at sector 8: No space left on device")])
        #expect(log.news(of: [[full], []]).isEmpty)
        let more = DiskFailure(kind: .write, reason: .noSpace, sector: 64, count: 40)
        let flush = DiskFailure(kind: .flush, reason: .ioError, sector: nil, count: 2)
        #expect(
            log.news(of: [[full], [more, flush]]) == [
                .init(reason: .noSpace, text: "write at sector 64: No space left on device, and 39 more"),
                .init(reason: .ioError, text: "flush: Input/output error, and 1 more"),
            ])
    }

    @Test("what was never begun because its frontend went is no failure of the disk's")
    func neverBegun() {
        var log = FailureLog()
        let ended = DiskFailure(kind: .read, reason: .canceled, sector: 0, count: 3)
        #expect(log.news(of: [[ended]]).isEmpty)
    }

    @Test("a disk that is full is told in the log and in the error node, within a second and a half or at the end")
    func fullDisk() throws {
        for waits in [true, false] {
            let disk = ScriptedDisk { if case .write = $0 { .failed(.noSpace) } else { .done } }
            let pair = try BlockPair(opener: { (_) throws(DeviceOpenFailure) in disk })
            let raw = try MockBlockFrontend(pair)
            for sector in [8, 16, 24] as [UInt64] { #expect(try raw.ask(raw.request(.write, sector: sector)) == .error) }
            let line = "vbd 1/51712: scripted: write at sector 24: No space left on device, and 2 more"
            if waits {
                #expect(eventually(3000) { pair.backend.log.contains { $0.hasPrefix("vbd 1/51712: scripted: write at sector") } })
                let node = "/local/domain/0/error/backend/vbd/1/51712/error"
                #expect(
                    try eventually(1000) {
                        try pair.toolstack.store.value(node)?.hasPrefix("28 write at sector ") == true
                    })
                #expect(try raw.ask(raw.request(.read, sector: 8)) == .okay, "the device goes on")
            }
            try raw.close()
            pair.backend.stop()
            if !waits { #expect(pair.backend.log.contains(line), "\(pair.backend.log)") }
        }
    }
}
