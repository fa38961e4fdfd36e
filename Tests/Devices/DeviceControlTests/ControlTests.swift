// What is asked of devices and answered, as text and back, and what is refused.

import DeviceFaults
import DeviceState
import Synchronization
import Testing

@testable import DeviceControl

/// A device that notes what it was told.
private final class NotingDevice: ControlledDevice {
    let name: String
    let kind: DeviceState.Kind
    let transport = DeviceState.Transport.xen
    private let state = Mutex((phase: DevicePhase.running, done: [DeviceCommand](), loaded: [DeviceState]()))
    private let bytes: UInt64

    init(_ name: String, _ kind: DeviceState.Kind = .block, bytes: UInt64 = 4096) {
        (self.name, self.kind, self.bytes) = (name, kind, bytes)
    }

    var phase: DevicePhase { state.withLock { $0.phase } }
    var done: [DeviceCommand] { state.withLock { $0.done } }
    var loaded: [DeviceState] { state.withLock { $0.loaded } }

    func attributes() -> [DeviceState.Attribute] {
        let always = [
            DevicePropertyKey.model.attribute("a disk\twith\na bad name"), DevicePropertyKey.bytes.attribute(bytes),
            DevicePropertyKey.isReadOnly.attribute(1), DevicePropertyKey.counter("reads", .max, place: 3),
        ]
        return phase == .paused ? always + [DevicePropertyKey.slots.attribute(32, queue: 1)] : always
    }

    func perform(_ command: DeviceCommand) throws(ControlError) {
        if command == .announce { throw .cannot(device: name, command: command.name, "it is no interface") }
        state.withLock { state in
            state.done.append(command)
            if case .pause = command { state.phase = .paused }
            if command == .resume { state.phase = .running }
        }
    }

    func load(_ saved: DeviceState) throws(ControlError) {
        try expectLikeness(of: saved)
        state.withLock { $0.loaded.append(saved) }
    }
}

@Suite("device control") struct ControlTests {
    @Test(
        "a request is the same after its way as text",
        arguments: [
            .list, .show(device: "xvda"), .rings(device: "vbd-1/51712"), .save(device: "vif0"),
            .load(device: "vbd-1/51712", [0, 1, 0x7F, 0x80, 0xFF]),
            .load(device: "x", []), .perform(device: "x", .pause(milliseconds: 70)), .perform(device: "x", .resume),
            .perform(device: "x", .close), .perform(device: "x", .flush), .perform(device: "x", .refresh),
            .perform(device: "x", .inject(queue: 3)), .perform(device: "x", .kick(queue: 0)), .perform(device: "x", .announce),
            .perform(device: "x", .reset(milliseconds: 9)), .perform(device: "x", .cancel),
            .perform(device: "x", .trace(isOn: true)),
            .perform(device: "x", .trace(isOn: false)), .perform(device: "x", .handover(socket: "/run/a b.sock")),
            .faults(device: "vbd-1/51712"), .setFault(device: "x", FaultPlan(.corruptIndex)), .clearFault(device: "x", name: "all"),
        ] as [ControlRequest])
    func requestRoundTrip(request: ControlRequest) throws {
        #expect(!request.line.contains("\n"))
        #expect(try ControlRequest(request.line) == request)
    }

    @Test("an answer is the same after its way as text, and half of one is none")
    func answerRoundTrip() {
        for answer in [ControlAnswer.done([]), .done(["a\tb", "c"]), .refused("no, because")] {
            #expect(ControlAnswer(answer.text) == answer)
            #expect(ControlAnswer(String(answer.text.dropLast())) == nil)
        }
        #expect(ControlAnswer("") == nil)
        #expect(ControlAnswer("what\n") == nil)
    }

    @Test(
        "words that are no command are refused in words",
        arguments: [
            ([], "`` is no command"), (["frob"], "`frob` is no command"), (["resume", "1"], "resume: takes nothing"),
            (["kick", "-1"], "kick: `-1` is no number"), (["kick", "1", "2"], "kick: takes one number"),
            (["kick", "99999999999999999999"], "is no number"), (["pause", "0"], "pause: waits 1 to 600000 milliseconds, not 0"),
            (["pause", "600001"], "not 600001"), (["inject", "x"], "inject: `x` is no number"),
            (["trace"], "trace: takes `on` or `off`"), (["trace", "maybe"], "takes `on` or `off`"),
            (["handover"], "handover: takes a socket's path"), (["reset", "0"], "reset: waits 1 to"),
            (["cancel", "1"], "cancel: takes nothing"),
        ] as [([String], String)])
    func badCommands(words: [String], expected: String) {
        do throws(ControlError) {
            _ = try DeviceCommand(words)
            Issue.record("\(words) is a command")
        } catch { #expect("\(error)".contains(expected), "\(error)") }
    }

    @Test("what a person may leave out has a usual value")
    func usualValues() throws {
        #expect(try DeviceCommand(["pause"]) == .pause(milliseconds: 5000))
        #expect(try DeviceCommand(["kick"]) == .kick(queue: 0))
        #expect(try DeviceCommand(["inject"]) == .inject(queue: 0))
    }

    @Test("lines that ask nothing known are refused")
    func badLines() {
        for line in ["", "list\t", "show", "show\ta\tb", "do\tx", "load\tx", "load\tx\t0", "load\tx\tzz", "load\tx\tAA", "SHOW\tx"]
        {
            #expect(throws: ControlError.self, "\(line)") { _ = try ControlRequest(line) }
        }
    }

    @Test("every attribute has a name of its own, and is known by its number")
    func names() throws {
        let names = try DevicePropertyKey.allCases.map { key in
            let attribute = key == .counter ? DevicePropertyKey.counter("x", 1, place: 0) : key.attribute(1)
            #expect(DevicePropertyKey.knows(attribute.group, attribute.number))
            return try #require(DevicePropertyKey.property(of: attribute), "\(key)").name
        }
        #expect(Set(names).count == names.count, "\(names)")
        #expect(
            DevicePropertyKey.property(of: DevicePropertyKey.slots.attribute(256, queue: 7))
                == DeviceProperty(.queue, index: 7, "slots", "256"))
        #expect(DevicePropertyKey.property(of: DevicePropertyKey.bytes.attribute(.max))?.value == "18446744073709551615")
        #expect(DevicePropertyKey.property(of: DevicePropertyKey.isReadOnly.attribute(0))?.value == "no")
        #expect(DevicePropertyKey.property(of: DevicePropertyKey.mac.attribute("00:16:3e:01:02:03"))?.name == "geometry.mac")
        // A number of another length comes from somewhere else.
        #expect(DevicePropertyKey.property(of: .init(.geometry, 0, [1, 2, 3])) == nil)
        #expect(DevicePropertyKey.counter(.init(.counters, 0, [1, 2, 3, 4, 5, 6, 7, 8])) == nil)
        #expect(!DevicePropertyKey.knows(3, 8))
    }

    @Test("devices are listed, shown and told, each by its name")
    func answers() throws {
        let (disk, other) = (NotingDevice("xvda"), NotingDevice("vif0", .network))
        let devices: [any ControlledDevice] = [disk, other]
        #expect(ControlRequest.list.answer(devices) == .done(["xvda\tblock\txen\trunning", "vif0\tnetwork\txen\trunning"]))
        #expect(
            ControlRequest.show(device: "xvda").answer(devices)
                == .done([
                    "identity.model\ta disk with a bad name", "geometry.bytes\t4096", "geometry.read-only\tyes",
                    "counters.reads\t18446744073709551615",
                ]))
        #expect(ControlRequest.perform(device: "vif0", .kick(queue: 2)).answer(devices) == .done([]))
        #expect(other.done == [.kick(queue: 2)] && disk.done.isEmpty)
        #expect(
            ControlRequest.show(device: "xvdb").answer(devices)
                == .refused("xvdb: no such device here; there are xvda, vif0"))
        #expect(ControlRequest.show(device: "x").answer([]) == .refused("x: no such device here; there is none"))
        #expect(ControlRequest.perform(device: "xvda", .announce).answer(devices) == .refused("xvda: announce: it is no interface"))
    }

    @Test("a state is saved of a device that stands still, and loaded by one that is like it")
    func saveAndLoad() throws {
        let disk = NotingDevice("xvda")
        guard case .refused(let reason) = ControlRequest.save(device: "xvda").answer([disk]) else {
            Issue.record("a running device was saved")
            return
        }
        #expect(reason.contains("`causeway device do xvda pause` first"))
        try disk.perform(.pause(milliseconds: 1))
        guard case .done(let lines) = ControlRequest.save(device: "xvda").answer([disk]) else {
            Issue.record("not saved")
            return
        }
        let bytes = try #require(lines.first.flatMap { ControlRequest.bytes($0) })
        let (same, bigger, network) = (NotingDevice("a"), NotingDevice("b", bytes: 8192), NotingDevice("c", .network))
        #expect(ControlRequest.load(device: "a", bytes).answer([same]) == .done([]))
        #expect(same.loaded == [try disk.save()])
        #expect(
            ControlRequest.load(device: "b", bytes).answer([bigger])
                == .refused("b: the state is of another device: its geometry.bytes is 4096, and here it is 8192"))
        #expect(
            ControlRequest.load(device: "c", bytes).answer([network])
                == .refused("c: the state is of a block device, and this is a network device"))
        #expect(bigger.loaded.isEmpty && network.loaded.isEmpty)
        for place in [0, 4, 20, bytes.count - 1] {
            var wrong = bytes
            wrong[place] ^= 1
            guard case .refused = ControlRequest.load(device: "a", wrong).answer([same]) else {
                Issue.record("a damaged state was loaded: byte \(place)")
                continue
            }
        }
        #expect(same.loaded.count == 1)
    }
}
