// One body for every flat device under every connector: the page is seen to change, and that is signalled.

import Connectors
import LinuxSystem
import PageDevices
import TestSupport
import Testing

@Suite(.serialized) struct PageMatrixTests {
    @Test(.timeLimit(.minutes(1)), arguments: ConnectorKind.allCases)
    func aBalloonIsTheSameUnderEveryConnector(_ connector: ConnectorKind) throws {
        let (reported, log) = (LineCollector(), LineCollector())
        let balloon = Balloon(mostPages: 100_000) { reported.add("\($0)") }
        try balloon.setTarget(7)
        let page = try connector.connect(balloon, log: log)
        defer { page.close() }
        #expect(eventually(20_000) { (try? page.read().prefix(4)) == [7, 0, 0, 0] })
        let before = page.changes
        // Down and up again: each is seen, and told.
        for target: UInt32 in [0x1234, 5, 90_000] {
            let told = page.changes
            try balloon.setTarget(target)
            #expect(eventually(20_000) { page.changes > told }, "\(log.all)")
            #expect(try BalloonReading(page.read()).target == target)
            try page.write(BalloonReading.report(target), at: BalloonReading.reportOffset)
            #expect(eventually(20_000) { balloon.actual == target }, "\(log.all)")
        }
        #expect(page.changes == before + 3)
        #expect(reported.all.suffix(3) == ["4660", "5", "90000"])
        // What cannot be changes nothing, by whichever way it is refused.
        try? page.write(BalloonReading.report(100_001), at: BalloonReading.reportOffset)
        #expect(throws: (any Error).self) { try page.write([1], at: 0) }
        #expect(throws: (any Error).self) { try page.write([1, 2], at: 7) }
        try page.write(BalloonReading.report(3), at: BalloonReading.reportOffset)
        #expect(eventually(20_000) { balloon.actual == 3 })
        #expect(balloon.target == 90_000)
    }

    @Test(.timeLimit(.minutes(1)), arguments: ConnectorKind.allCases)
    func aClockIsTheSameUnderEveryConnector(_ connector: ConnectorKind) throws {
        let (time, log) = (ManualClock(), LineCollector())
        let clock = HostClock(time: time)
        let page = try connector.connect(clock, log: log)
        #expect(eventually(20_000) { (try? ClockReading(page.read())) == clock.reading })
        for _ in 0..<5 {
            let told = page.changes
            time.advance(milliseconds: 1000)
            clock.look()
            #expect(eventually(20_000) { page.changes > told }, "\(log.all)")
            #expect(try ClockReading(page.read()) == clock.reading)
        }
        #expect(clock.watchers.count == 1)
        page.close()
        #expect(eventually(20_000) { clock.watchers.count == 0 })
    }
}
