// What a device says of its rings, as text and back.

import DeviceState
import Testing

@testable import DeviceControl

@Suite("ring reports") struct RingReportTests {
    /// A device with these rings, or none that can be looked at.
    private struct Ringed: ControlledDevice {
        var name: String { "vbd-1/51712" }
        var kind: DeviceState.Kind { .block }
        var transport: DeviceState.Transport { .xen }
        var phase: DevicePhase { .running }
        let all: [RingReport]
        func attributes() -> [DeviceState.Attribute] { [] }
        func perform(_ command: DeviceCommand) {}
        func load(_ state: DeviceState) {}
        func rings() -> [RingReport] { all }
    }

    private struct Ringless: ControlledDevice {
        var name: String { "vda" }
        var kind: DeviceState.Kind { .block }
        var transport: DeviceState.Transport { .vhostUser }
        var phase: DevicePhase { .running }
        func attributes() -> [DeviceState.Attribute] { [] }
        func perform(_ command: DeviceCommand) {}
        func load(_ state: DeviceState) {}
    }

    @Test("rings are the same after their way as text")
    func roundTrip() {
        let rings = [
            RingReport(
                "queue 0", fields: [.init("slots", 32), .init("req_prod", UInt32.max)], notes: ["paused: for a while"],
                requests: [
                    [.init("id", 7), .init("stage", "at the disk")], [.init("id", UInt64.max), .init("stage", "a=b")],
                ]),
            RingReport("queue 1 transmit", fields: []),
        ]
        guard case .done(let lines) = ControlRequest.rings(device: "vbd-1/51712").answer([Ringed(all: rings)]) else {
            Issue.record("it was refused")
            return
        }
        #expect(RingReport.rings(lines) == rings)
        #expect(ControlAnswer(ControlAnswer.done(lines).text) == .done(lines))
    }

    @Test("a newline in a peer's words ends no line, and lines of something else are passed over")
    func foreignWords() {
        let ring = RingReport("queue 0", fields: [], notes: ["broken:\nring\tqueue 9"])
        guard case .done(let lines) = ControlRequest.rings(device: "vbd-1/51712").answer([Ringed(all: [ring])]) else {
            Issue.record("it was refused")
            return
        }
        #expect(lines.allSatisfy { !$0.contains("\n") } && RingReport.rings(lines).map(\.name) == ["queue 0"])
        #expect(RingReport.rings(["field\tx\t1", "what", "", "ring\ta", "field\tonly"]) == [RingReport("a", fields: [])])
    }

    @Test("a device whose rings nobody can look at says so")
    func none() {
        let answer = ControlRequest.rings(device: "vda").answer([Ringless()])
        guard case .refused(let reason) = answer else {
            Issue.record("\(answer)")
            return
        }
        #expect(reason.contains("vda: rings: "))
    }
}
