// Taps as a Swift user of NetworkBackend has them: made, let go, and found again by a successor. That a killed process
// leaves them, and what its command says of it, is with the command's tests.

import Foundation
import LinuxSystem
import NetworkBackend
import NetworkDevices
import Synchronization
import TestSupport
import Testing
import XenBus
import XenTypes

@testable import VifTaps

@Suite("Taps and their records (as root)", .enabled(if: getuid() == 0 && access("/dev/net/tun", F_OK) == 0))
struct TapOpenerTests {
    /// One test's directory, and names of taps that are its own.
    private final class Scene {
        let directory: TemporaryDirectory
        let prefix = "vt\(getpid() % 100_000)\(["a", "b", "c", "d"].randomElement() ?? "a")"
        private let log = Lines()

        init() throws { directory = try TemporaryDirectory() }

        deinit {
            for name in taps {
                Self.waitUntilFree(name)
                try? TapDevice(name: name, outlives: true).retire()
            }
        }

        /// A process that ends has let go of its taps; here the thread that hears of their changes may be looking at
        /// one.
        static func waitUntilFree(_ name: String) { _ = eventually { !TapDevice.isInUse(name) } }

        var lines: [String] { log.all }
        var taps: [String] {
            FileSystem.names(in: "/sys/class/net").filter { $0.hasPrefix(prefix) }.sorted()
        }
        var records: [String] { FileSystem.names(in: directory.path).filter { $0.hasSuffix(".tap") }.sorted() }
        var calls: [String] { (FileSystem.text(of: "\(directory.path)/calls") ?? "").split(separator: "\n").map(String.init) }

        /// What a backend's process has; another is its successor's.
        func opener(keepsRecords: Bool = true, callsScripts: Bool = true, isQuiet: Bool = false) -> TapOpener {
            var notes: (@Sendable (String) -> Void)?
            if isQuiet { notes = { _ in } }
            return TapOpener(
                records: keepsRecords ? TapRecords(directory: directory.path, kind: .network) : nil,
                scriptStore: callsScripts ? "/nowhere/xenstored.sock" : nil, time: .system, notes: notes,
                log: { [log] in log.add($0) })
        }

        func settings(_ number: UInt32, script: String? = nil) -> NetworkSettings {
            var settings = NetworkSettings(
                device: DeviceID(frontend: DomainID(1), number: number), address: MACAddress(littleEndian: 0x0100_3E16_0000))
            settings.name = "\(prefix)\(number)"
            settings.script = script
            return settings
        }

        func script(_ body: String) throws -> String {
            let path = "\(directory.path)/script"
            try FileSystem.replace(path, with: Array("#!/bin/sh\necho \"$1 $vif\" >> '\(directory.path)/calls'\n\(body)\n".utf8))
            chmod(path, 0o755)
            return path
        }
    }

    private final class Lines: Sendable {
        private let lines = Mutex<[String]>([])
        var all: [String] { lines.withLock { $0 } }
        func add(_ line: String) { lines.withLock { $0.append(line) } }
    }

    /// Opens, and waits until the tap is there or is not to be had.
    private func open(_ settings: NetworkSettings, by opener: TapOpener) throws -> (any NetworkDevice, DeviceReadiness) {
        Scene.waitUntilFree(settings.interface)
        let device = try opener.open(settings)
        for _ in 0..<2000 {
            if device.readiness != .notYet { break }
            sleepMilliseconds(10)
        }
        return (device, device.readiness)
    }

    @Test("a tap stays when its process is gone without a word, and the successor has the same one")
    func successor() throws {
        let scene = try Scene()
        let index: UInt32?
        do {
            let (device, readiness) = try open(scene.settings(0), by: scene.opener())
            #expect(readiness == .ready && device.mtu == 1500)
            index = HostInterface.index(of: "\(scene.prefix)0")
        }
        #expect(index != nil && scene.taps == ["\(scene.prefix)0"] && scene.records == ["vif-1-0.tap"])
        let (device, _) = try open(scene.settings(0), by: scene.opener())
        #expect(HostInterface.index(of: "\(scene.prefix)0") == index)
        device.retire()
        #expect(scene.records.isEmpty)
    }

    @Test("let go, a tap goes with its last user, and its record with it")
    func retired() throws {
        let scene = try Scene()
        do {
            let (device, _) = try open(scene.settings(0), by: scene.opener())
            device.retire()
        }
        #expect(scene.taps.isEmpty && scene.records.isEmpty && scene.lines.isEmpty)
    }

    @Test("without records a tap is gone with its process")
    func withoutRecords() throws {
        let scene = try Scene()
        do { #expect(try open(scene.settings(0), by: scene.opener(keepsRecords: false)).1 == .ready) }
        #expect(eventually { scene.taps.isEmpty } && scene.records.isEmpty)
    }

    @Test("what is left of interfaces that are no more is removed, their scripts called; the living keep theirs")
    func leftOver() throws {
        let scene = try Scene()
        let script = try scene.script("")
        do {
            let opener = scene.opener()
            for number: UInt32 in 0..<2 { #expect(try open(scene.settings(number, script: script), by: opener).1 == .ready) }
        }
        #expect(scene.taps.count == 2)
        let successor = scene.opener()
        successor.removeLeftovers(but: [scene.settings(1).device])
        successor.finish()
        #expect(scene.taps == ["\(scene.prefix)1"] && scene.records == ["vif-1-1.tap"])
        #expect(scene.calls == ["online \(scene.prefix)0", "online \(scene.prefix)1", "offline \(scene.prefix)0"])
        #expect(scene.lines == ["tap \(scene.prefix)0: vif 1/0 is no more; removed"])
    }

    @Test(
        "what an administrator changed, the name too, is as it was when a successor goes on",
        arguments: [false, true])
    func settingsStay(isKept: Bool) throws {
        let scene = try Scene()
        let keeper = isKept ? try TapDevice(name: "\(scene.prefix)0", role: .keeper) : nil
        do { #expect(try open(scene.settings(0), by: scene.opener()).1 == .ready) }
        let name = "\(scene.prefix)n"
        let ip = URL(fileURLWithPath: "/sbin/ip")
        for words in ["\(scene.prefix)0 down", "\(scene.prefix)0 name \(name)", "\(name) address 02:00:00:00:00:77 mtu 4000"] {
            let run = try Process.run(ip, arguments: ["link", "set"] + words.components(separatedBy: " "))
            run.waitUntilExit()
            #expect(run.terminationStatus == 0)
        }
        let (device, readiness) = try open(scene.settings(0), by: scene.opener())
        #expect(readiness == .ready && device.mtu == 4000)
        #expect(scene.taps == [name], "it is not made a second time")
        #expect(FileSystem.text(of: "/sys/class/net/\(name)/address")?.hasPrefix("02:00:00:00:00:77") == true)
        #expect(FileSystem.text(of: "/sys/class/net/\(name)/operstate")?.hasPrefix("down") == true)
        device.retire()
        #expect(scene.records.isEmpty)
        withExtendedLifetime(keeper) {}
    }

    @Test("a tap that somebody else made afresh is put in its place afresh")
    func madeAfresh() throws {
        let scene = try Scene()
        for _ in 0..<2 {
            let keeper = try TapDevice(name: "\(scene.prefix)0", role: .keeper)
            #expect(try open(scene.settings(0), by: scene.opener()).1 == .ready)
            #expect(FileSystem.text(of: "/sys/class/net/\(scene.prefix)0/address")?.hasPrefix("fe:ff:ff:ff:ff:ff") == true)
            withExtendedLifetime(keeper) {}
        }
    }

    @Test("a tap that somebody else keeps is joined and stays as it is")
    func somebodyElses() throws {
        let scene = try Scene()
        let keeper = try TapDevice(name: "\(scene.prefix)0", role: .keeper)
        let index = HostInterface.index(of: "\(scene.prefix)0")
        let (device, readiness) = try open(scene.settings(0), by: scene.opener())
        #expect(readiness == .ready && scene.records == ["vif-1-0.tap"])
        device.retire()
        #expect(scene.records.isEmpty)
        #expect(HostInterface.index(of: "\(scene.prefix)0") == index)
        withExtendedLifetime(keeper) {}
    }

    @Test("a script in its place already is not called again by the successor, and is called at the end")
    func scriptOnce() throws {
        let scene = try Scene()
        let script = try scene.script("")
        do { #expect(try open(scene.settings(0, script: script), by: scene.opener()).1 == .ready) }
        let successor = scene.opener()
        let (device, _) = try open(scene.settings(0, script: script), by: successor)
        #expect(scene.calls == ["online \(scene.prefix)0"])
        device.retire()
        successor.finish()
        #expect(scene.calls == ["online \(scene.prefix)0", "offline \(scene.prefix)0"] && scene.records.isEmpty)
    }

    @Test("a tap that is another's leaves no record: the next interface of the number has its own")
    func takenTap() throws {
        let scene = try Scene()
        let opener = scene.opener()
        let (other, _) = try open(scene.settings(0), by: opener)
        var second = scene.settings(1)
        second.name = scene.settings(0).name
        #expect(throws: (any Error).self) { try opener.open(second) }
        #expect(scene.records == ["vif-1-0.tap"])
        let (own, readiness) = try open(scene.settings(1), by: opener)
        #expect(readiness == .ready && scene.taps == ["\(scene.prefix)0", "\(scene.prefix)1"])
        for device in [other, own] { device.retire() }
    }

    @Test(
        "attached anew by another name while no backend was there: the old tap goes, with -q without a word",
        arguments: [false, true])
    func otherName(isQuiet: Bool) throws {
        let scene = try Scene()
        do { #expect(try open(scene.settings(0), by: scene.opener()).1 == .ready) }
        Scene.waitUntilFree("\(scene.prefix)0")
        var again = scene.settings(0)
        again.name = "\(scene.prefix)7"
        let opener = scene.opener(isQuiet: isQuiet)
        let (device, readiness) = try open(again, by: opener)
        #expect(readiness == .ready && eventually { scene.taps == ["\(scene.prefix)7"] }, "\(scene.taps)")
        opener.finish()
        #expect(scene.records == ["vif-1-0.tap"])
        #expect(scene.lines == (isQuiet ? [] : ["tap \(scene.prefix)0: vif 1/0 is no more; removed"]))
        device.retire()
    }

    @Test("a script that fails: the interface says so, and neither tap nor record is left")
    func failingScript() throws {
        let scene = try Scene()
        let script = try scene.script("exit 3")
        do {
            let (_, readiness) = try open(scene.settings(0, script: script), by: scene.opener())
            #expect(readiness == .failed("tap \(scene.prefix)0: \(script) online: exited with status 3"))
        }
        #expect(scene.taps.isEmpty && scene.records.isEmpty)
    }

    @Test("a slow script holds up its own tap, not its caller nor another's tap")
    func slowScript() throws {
        let scene = try Scene()
        let opener = scene.opener()
        let script = try scene.script("sleep 2")
        let clock = ContinuousClock()
        let begun = clock.now
        let slow = try opener.open(scene.settings(0, script: script))
        #expect(slow.readiness == .notYet)
        #expect(try open(scene.settings(1), by: opener).1 == .ready)
        #expect(clock.now - begun < .seconds(1))
        opener.finish()
        #expect(slow.readiness == .ready && clock.now - begun >= .seconds(2))
    }

    @Test("a pair's keeper makes both taps and the namespace, and its end takes all of them")
    func keeper() throws {
        let scene = try Scene()
        let (back, namespace) = ("\(scene.prefix)0", "\(scene.prefix)ns")
        let seen = Lines()
        // In a thread that ends with the test: it stays in the namespace.
        let thread = try WorkerThread(name: "keeper") {
            do throws(TapKeeperError) {
                let keeper = try TapKeeper(
                    back: back, front: "\(back)f", namespace: namespace, address: MACAddress(littleEndian: 0x0100_3E16_0000),
                    mtu: 9000)
                if NetworkNamespace.exists(namespace) { seen.add("namespace") }
                if HostInterface.exists("\(back)f") { seen.add("front there") }
                if HostInterface.exists(back) { seen.add("back there") }
                _ = consume keeper
            } catch { seen.add("\(error)") }
        }
        thread.join()
        #expect(seen.all == ["namespace", "front there"])
        #expect(!NetworkNamespace.exists(namespace) && scene.taps.isEmpty)
    }
}
