// A disk's front end from one back end to the next, with rings that run: nothing is lost, done twice, or left behind.

import Connectors
import BlockDevices
import LinuxSystem
import ScriptedDevices
import SharedMemory
import TestSupport
import Testing
import VhostUser
import VirtioRing
import VirtioWire

@testable import VirtioBlock

@Suite("virtio disk: front ends that are handed over") struct HandoverTests {
    @Test("one back end after another serves the same rings", arguments: RingKind.allCases)
    func again(kind: RingKind) throws {
        let rig = try DiskRig(reactors: 2)
        defer { rig.stop() }
        let (device, _) = try rig.file()
        let driver = try VhostDriver(rig.disk(device, queues: 2), features: kind.features, rings: 2)
        defer { driver.leave() }
        for ring in 0..<2 { try driver.start(ring) }
        for round in 0..<20 {
            let ring = round % 2
            let bytes = (0..<512).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ round) }
            #expect(try driver.perform(driver.request(.write, sector: UInt64(round), give: bytes), on: ring).status == 0)
            // A request that nobody looks at before the successor is there.
            let handover = try driver.putBy()
            let waiting = driver.request(.read, sector: UInt64(round), page: 1, room: 512)
            try driver.offer(waiting, on: ring)
            try driver.goOn(rig.disk(device, queues: 2), handover)
            #expect(try driver.reap(on: ring).written == 513, "round \(round)")
            #expect(driver.region.bytes(at: waiting.data, count: 512) == bytes)
        }
        #expect(driver.ended.all.isEmpty)
        #expect(rig.log.all.isEmpty)
    }

    @Test("what is in work ends before the rings are given away", arguments: RingKind.allCases)
    func inWork(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let disk = ScriptedDisk()
        let driver = try VhostDriver(rig.disk(disk), features: kind.features)
        defer { driver.leave() }
        try driver.start()
        let ticket = try driver.offer(driver.request(.write, give: Array(repeating: 1, count: 512)))
        try #require(disk.wait(for: 1))
        let service = driver.service
        let hasEnded = LineCollector()
        let holder = try WorkerThread(name: "hold") {
            _ = service.hold()
            hasEnded.add("held")
        }
        sleepMilliseconds(100)
        #expect(hasEnded.all.isEmpty)
        disk.end(0)
        holder.join()
        // Its answer is there though nobody serves the ring.
        #expect(try driver.reap().ticket == ticket)
        guard case .held(let handover) = service.join() else { throw TimedOut("not held") }
        let next = ScriptedDisk { _ in .done }
        try driver.goOn(rig.disk(next), handover)
        #expect(try driver.perform(driver.request(.write, give: Array(repeating: 2, count: 512))).status == 0)
        #expect(next.operations == [.write(offset: 0)])
    }

    @Test("a kick before the hand-over, and a ring that is enabled after it")
    func enabledLater() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, _) = try rig.file()
        let driver = try VhostDriver(rig.disk(device), features: RingKind.splitWithEvents.features)
        defer { driver.leave() }
        try driver.start(isEnabled: false)
        try driver.offer(driver.request(.read, room: 512))
        driver.kicks[0].ring()
        try driver.goOn(rig.disk(device), driver.putBy())
        sleepMilliseconds(50)
        #expect(try driver.queues[0]?.reap() == nil)
        try driver.send(18, words: 0, 1)
        #expect(try driver.reap().written == 513)
    }

    @Test("a message that nobody has read is the successor's; one in the midst of coming is waited for")
    func messages() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, _) = try rig.file()
        let driver = try VhostDriver(rig.disk(device), features: RingKind.split.features)
        defer { driver.leave() }
        let handover = try driver.putBy()
        let features = [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0] as [UInt8]
        try driver.say(features)
        try driver.goOn(rig.disk(device), handover)
        #expect(try driver.hear(20).prefix(8) == [1, 0, 0, 0, 5, 0, 0, 0])
        // Half of it before, half while the connection is put by.
        try driver.say(Array(features.prefix(5)))
        sleepMilliseconds(50)
        let service = driver.service
        let holder = try WorkerThread(name: "hold") { _ = service.hold() }
        sleepMilliseconds(50)
        try driver.say(Array(features.dropFirst(5)))
        #expect(try driver.hear(20).prefix(8) == [1, 0, 0, 0, 5, 0, 0, 0])
        holder.join()
        guard case .held(let second) = service.join() else { throw TimedOut("not held: \(driver.ended.all)") }
        try driver.goOn(rig.disk(device), second)
        // And one that never comes whole: the connection has to end, for nobody could go on with it.
        try driver.say(Array(features.prefix(5)))
        sleepMilliseconds(50)
        guard case .gone(let reason) = driver.service.hold() else { throw TimedOut("held in the midst of a message") }
        #expect(reason?.contains("in the midst of a message") == true)
    }

    @Test("a successor with another disk, which has less to offer, ends the connection and says why")
    func less() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let driver = try VhostDriver(
            rig.disk(ScriptedDisk()), features: RingKind.split.features)
        defer { driver.leave() }
        try driver.start()
        let handover = try driver.putBy()
        let (readOnly, _) = try rig.file(readOnly: true)
        try driver.goOn(rig.disk(readOnly), handover)
        guard case .gone(let reason) = driver.service.join() else { throw TimedOut("gone on with") }
        #expect(reason?.hasPrefix("cannot be gone on with: its state: ") == true, "\(reason ?? "")")
        // Whoever waits for it to be served is told that it is not.
        #expect(driver.service.began.all == ["false"])
    }

    @Test("what is cancelled ends with an error; of a ring that waits to be stopped it is left for whoever goes on")
    func cancelled() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let scripted = ScriptedDisk()
        let disk = rig.disk(scripted)
        let driver = try VhostDriver(disk, features: RingKind.split.features)
        defer { driver.leave() }
        try driver.start()
        let request = driver.request(.write, give: Array(repeating: 1, count: 512))
        try driver.offer(request)
        #expect(scripted.wait(for: 1))
        try disk.cancel()
        #expect(try driver.reap().written == 1)
        #expect(driver.region.load(request.status) == UInt8(1))
        // The front end stops the ring, and waits.
        try driver.offer(driver.request(.write, give: Array(repeating: 2, count: 512)))
        #expect(scripted.wait(for: 2))
        let stopped = LineCollector()
        let stopper = try WorkerThread(name: "stop") { if (try? disk.perform(.stop(ring: 0))) != nil { stopped.add("stopped") } }
        sleepMilliseconds(50)
        #expect(stopped.all.isEmpty)
        try disk.cancel()
        #expect(eventually(5000) { !stopped.all.isEmpty })
        if stopped.all.isEmpty { scripted.end(1) }
        stopper.join()
    }
}
