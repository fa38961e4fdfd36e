import Foundation
import LinuxSystem
import NetworkBackend
import Synchronization
import TestSupport
import Testing
import XenBus
import XenTypes

@testable import VifTaps

@Suite("Records, lanes and scripts of taps") struct TapRecordsTests {
    private static func device(_ domain: UInt16, _ number: UInt32) -> DeviceID {
        DeviceID(frontend: DomainID(domain), number: number)
    }

    @Test("a record is read as it was written, whatever its script is called; each kind has its own")
    func roundTrip() throws {
        let directory = try TemporaryDirectory()
        let records = TapRecords(directory: directory.path, kind: .network)
        let one = TapRecord(device: Self.device(1, 0), name: "vif1.0", index: 7, isPlaced: true, script: "/a b/c\nd")
        let other = TapRecord(device: Self.device(3, 2), name: "tap0", index: 0, isOurs: false)
        for record in [one, other] {
            try records.write(record)
            #expect(records.read(record.device) == record)
        }
        #expect(Set(records.all.map(\.device)) == [one.device, other.device])
        #expect(TapRecords(directory: directory.path, kind: DeviceKind("vif-other")).all.isEmpty)
        records.remove(one.device)
        #expect(records.read(one.device) == nil && records.all == [other])
        #expect(other.currentName == nil, "there is no such interface")
    }

    @Test(
        "a file that is no record is none",
        arguments: [
            "", "tap0", "tap0\n7\n1\n1", "\n7\n1\n1\n", "tap0\nseven\n1\n1\n", "tap0\n7\nyes\n0\n", "tap0\n7\n1\nyes\n",
            "tap0\n-1\n0\n0\n",
        ])
    func malformed(text: String) throws {
        let directory = try TemporaryDirectory()
        let records = TapRecords(directory: directory.path, kind: .network)
        try FileSystem.replace("\(directory.path)/vif-1-0.tap", with: Array(text.utf8))
        try FileSystem.replace("\(directory.path)/vif-1.tap", with: Array("tap0\n7\n1\n0\n".utf8))
        #expect(records.read(Self.device(1, 0)) == nil && records.all.isEmpty)
    }

    @Test("jobs of one name run in order, those of two names beside each other")
    func lanes() throws {
        let lanes = TapLanes()
        let done = Mutex<[String]>([])
        let gate = try WakePipe()
        lanes.run("a") {
            _ = try? waitReadable(gate.reader.rawValue, milliseconds: 10_000)
            done.withLock { $0.append("a1") }
        }
        lanes.run("a") { done.withLock { $0.append("a2") } }
        #expect(lanes.isBusy("a") && !lanes.isBusy("c"))
        lanes.run("b") {
            done.withLock { $0.append("b1") }
            signalPipe(gate.writer)
        }
        lanes.finish(seconds: 10, .system)
        #expect(done.withLock { $0 } == ["b1", "a1", "a2"] && !lanes.isBusy("a") && !lanes.isBusy("b"))
    }

    @Test("a script sees xl's words and variables; vif-bridge is built in")
    func script() throws {
        let directory = try TemporaryDirectory()
        let (path, seen) = ("\(directory.path)/script", "\(directory.path)/seen")
        let words = "$* $vif $netdev $script $XENBUS_TYPE $XENBUS_PATH $XENBUS_BASE_PATH $XENSTORED_PATH"
        try FileSystem.replace(path, with: Array("#!/bin/sh\necho \"\(words)\" > '\(seen)'\n".utf8))
        chmod(path, 0o755)
        var settings = NetworkSettings(device: Self.device(4, 1), address: .broadcast)
        settings.name = "tap9"
        settings.script = path
        try #require(VifScript(settings, storeSocket: "/run/s")).run("online", time: .system)
        #expect(
            FileSystem.text(of: seen) == "online type_if=vif tap9 tap9 \(path) vif backend/vif/4/1 backend /run/s\n")
        settings.script = "/etc/xen/scripts/vif-bridge"
        #expect(VifScript(settings, storeSocket: "/run/s") == nil)
        settings.script = nil
        #expect(VifScript(settings, storeSocket: "/run/s") == nil)
    }

    @Test("a script that does not end is given ten seconds, and killed")
    func timeLimit() throws {
        let directory = try TemporaryDirectory()
        let path = "\(directory.path)/script"
        try FileSystem.replace(path, with: Array("#!/bin/sh\nexec sleep 1000\n".utf8))
        chmod(path, 0o755)
        let clock = ManualClock()
        let start = monotonicMilliseconds()
        #expect(throws: VifScriptError.timedOut(path: path, action: "online", seconds: 10)) {
            try VifScript(path, for: "tap9", of: Self.device(1, 0), storeSocket: "").run("online", time: clock)
        }
        // Two milliseconds at a time, and then some for its end.
        #expect(clock.sleeps.count >= 5000 && clock.sleeps.allSatisfy { $0 == 2 })
        #expect(monotonicMilliseconds() - start < 5000, "nobody waited in earnest")
    }

    @Test("a script that cannot be started or that fails is an error that names it")
    func failures() {
        let device = Self.device(1, 0)
        #expect(throws: VifScriptError.notStarted(path: "/no/such", .noSuchFile)) {
            try VifScript("/no/such", for: "tap9", of: device, storeSocket: "").run("online", time: .system)
        }
        #expect(throws: VifScriptError.failed(path: "/bin/false", action: "offline", .exited(1))) {
            try VifScript("/bin/false", for: "tap9", of: device, storeSocket: "").run("offline", time: .system)
        }
        #expect(
            VifScriptError.timedOut(path: "/s", action: "online", seconds: 10).description == "/s online: not done after 10 s")
    }
}
