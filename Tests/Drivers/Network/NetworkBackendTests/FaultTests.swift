// Interfaces that go wrong on purpose: each kind is set, seen at the other end of the wire or by an honest peer,
// undone, and then frames are what was sent.

import DeviceControl
import DeviceFaults
import DriverRuntime
import LinuxSystem
@testable import NetworkBackend
import NetworkFrontend
import TestHosts
import Testing
import TestSupport

@Suite("faults of interfaces", .timeLimit(.minutes(1))) struct FaultTests {
    /// An interface both of whose ends take faults.
    private struct Rig {
        let pair: NetworkPair
        let frontend: NetworkFrontend<TestHypervisor>

        init(_ options: NetworkFrontendOptions = .init()) throws {
            var (options, backend) = (options, NetworkBackendOptions())
            options.takesFaults = true
            backend.takesFaults = true
            pair = try NetworkPair(backend)
            frontend = try pair.connect(options)
            try pair.exchange(2, seed: 1)
        }

        func end() {
            frontend.close()
            pair.backend.stop()
        }

        func ask(_ request: ControlRequest) throws -> ControlAnswer {
            try ControlRequest(request.line).answer(pair.backend.controlled())
        }

        func set(_ kind: DeviceFault, _ side: FaultSide = .back, _ change: (inout FaultPlan) -> Void = { _ in }) throws {
            var plan = FaultPlan(kind)
            plan.side = side
            change(&plan)
            if side == .back {
                let answer = try ask(.setFault(device: "vif-1/0", plan))
                #expect(answer == .done([kind.rawValue]))
            } else {
                _ = try #require(frontend.faults).set(plan)
            }
        }

        func struck(_ side: FaultSide = .back) throws -> [UInt64] {
            if side == .front { return frontend.faults?.records.map(\.struck) ?? [] }
            guard case .done(let lines) = try ask(.faults(device: "vif-1/0")) else { return [] }
            return lines.compactMap { UInt64($0.split(separator: "\t")[4]) }
        }

        /// Undoes all, and sees frames go both ways.
        func clear() throws {
            guard case .done = try ask(.clearFault(device: "vif-1/0", name: "all")) else { return #expect(Bool(false)) }
            _ = try frontend.faults?.clear("all")
            try pair.exchange(4, seed: 9)
        }
    }

    private func withRig(_ options: NetworkFrontendOptions = .init(), _ body: (Rig) throws -> Void) throws {
        let rig = try Rig(options)
        defer { rig.end() }
        try body(rig)
    }

    /// The two ways: what the backend's wire gives goes toward the front.
    private func ends(_ rig: Rig, _ toward: FaultSide) -> (from: Wire, to: Wire) {
        toward == .front ? (rig.pair.backWire, rig.pair.frontWire) : (rig.pair.frontWire, rig.pair.backWire)
    }

    @Test("drop: a frame is lost, that way only", arguments: FaultSide.allCases) func drop(toward: FaultSide) throws {
        try withRig { rig in
            let (from, to) = ends(rig, toward)
            try rig.set(.drop) {
                $0.count = 1
                $0.toward = toward
            }
            try to.send(plainFrame(100, seed: 3))
            #expect(try from.receive()?.frame == plainFrame(100, seed: 3))
            try from.send(plainFrame(100, seed: 1))
            try from.send(plainFrame(200, seed: 2))
            #expect(try to.receive()?.frame == plainFrame(200, seed: 2))
            #expect(try rig.struck() == [1])
            try rig.clear()
        }
    }

    @Test("duplicate: a frame comes twice", arguments: FaultSide.allCases) func duplicate(toward: FaultSide) throws {
        try withRig { rig in
            let (from, to) = ends(rig, toward)
            try rig.set(.duplicate) {
                $0.count = 1
                $0.toward = toward
            }
            try from.send(plainFrame(100, seed: 1))
            for number in 0..<2 {
                let found = try to.receive()?.frame
                let struck = try rig.struck()
                #expect(found == plainFrame(100, seed: 1), "\(number): \(found?.count ?? 0), \(struck)")
            }
            try rig.clear()
        }
    }

    @Test("delay: a frame is late, and others overtake it", arguments: FaultSide.allCases) func delay(toward: FaultSide) throws {
        try withRig { rig in
            let (from, to) = ends(rig, toward)
            try rig.set(.delay) {
                $0.count = 1
                $0.milliseconds = 200
                $0.toward = toward
            }
            let begun = monotonicMilliseconds()
            try from.send(plainFrame(100, seed: 1))
            try from.send(plainFrame(200, seed: 2))
            #expect(try to.receive()?.frame == plainFrame(200, seed: 2))
            #expect(try to.receive()?.frame == plainFrame(100, seed: 1))
            #expect(monotonicMilliseconds() - begun >= 190)
            try rig.clear()
        }
    }

    @Test("reorder: all come, in another order", arguments: FaultSide.allCases) func reorder(toward: FaultSide) throws {
        try withRig { rig in
            let (from, to) = ends(rig, toward)
            try rig.set(.reorder) {
                $0.milliseconds = 100
                $0.toward = toward
            }
            let frames = (0..<8).map { plainFrame(100 + $0, seed: $0) }
            for frame in frames { try from.send(frame) }
            let found = try (0..<8).map { _ in try to.receive()?.frame ?? [] }
            #expect(found != frames && Set(found) == Set(frames))
            try rig.clear()
        }
    }

    @Test("corrupt: one byte is another, behind the addresses; short: the end is missing", arguments: FaultSide.allCases)
    func spoilt(toward: FaultSide) throws {
        try withRig { rig in
            let (from, to) = ends(rig, toward)
            for kind in [DeviceFault.corrupt, .short] {
                let frame = plainFrame(900, seed: 1)
                try rig.set(kind) {
                    $0.count = 1
                    $0.seed = 4
                    $0.toward = toward
                }
                try from.send(frame)
                let found = try to.receive()?.frame ?? []
                if kind == .corrupt {
                    #expect(zip(found, frame).count { $0 != $1 } == 1 && found.count == frame.count)
                    #expect(found.prefix(12) == frame.prefix(12))
                } else {
                    #expect(found.count < frame.count && found == Array(frame.prefix(found.count)), "\(found.count)")
                }
                try rig.clear()
            }
        }
    }

    @Test("stall: nothing moves for a while, then all does, in order", arguments: FaultSide.allCases) func stall(toward: FaultSide)
        throws
    {
        try withRig { rig in
            let (from, to) = ends(rig, toward)
            try rig.set(.stall) {
                $0.milliseconds = 300
                $0.toward = toward
            }
            let begun = monotonicMilliseconds()
            for number in 0..<5 { try from.send(plainFrame(100, seed: number)) }
            for number in 0..<5 { #expect(try to.receive()?.frame == plainFrame(100, seed: number)) }
            #expect((290..<3000).contains(monotonicMilliseconds() - begun))
            #expect(try rig.struck() == [1])
            try rig.clear()
        }
    }

    @Test("drop-event: a frame arrives when the frontend looks by itself; a backend is rung again", arguments: FaultSide.allCases)
    func dropEvent(side: FaultSide) throws {
        try withRig { rig in
            let (from, to) = ends(rig, side == .back ? .front : .back)
            try rig.set(.dropEvent, side) {
                $0.count = 1
                $0.toward = side == .back ? .front : .back
            }
            // Both sides sleep by now.
            sleepMilliseconds(100)
            try from.send(plainFrame(100, seed: 1))
            #expect(try to.receive(milliseconds: 5000)?.frame == plainFrame(100, seed: 1))
            #expect(try rig.struck(side) == [1])
            try rig.clear()
        }
    }

    @Test("corrupt-id of a received page: that frame is dropped, and no other") func receivedID() throws {
        try withRig { rig in
            try rig.set(.corruptID) { $0.toward = .front }
            try rig.pair.backWire.send(plainFrame(100, seed: 1))
            #expect(eventually { (try? rig.struck()) == [1] })
            try rig.pair.backWire.send(plainFrame(100, seed: 2))
            #expect(try rig.pair.frontWire.receive()?.frame == plainFrame(100, seed: 2))
            #expect(eventually { rig.frontend.statistics.reduce(0) { $0 + $1.receiveDropped } == 1 })
            try rig.clear()
        }
    }

    @Test("corrupt-id of a sent page and indices that cannot be: the frontend gives the backend up", arguments: [1, 2] as [UInt64])
    func broken(seed: UInt64) throws {
        for (kind, toward) in [(DeviceFault.corruptID, FaultSide.back), (.corruptIndex, .front), (.corruptIndex, .back)] {
            let rig = try Rig()
            defer { rig.end() }
            try rig.set(kind) {
                $0.seed = seed
                $0.toward = toward
            }
            // Answers that nobody waits for are looked at with the next frame.
            for number in 0..<4 {
                rig.pair.frontWire.offer(plainFrame(100, seed: number))
                rig.pair.backWire.offer(plainFrame(100, seed: number))
                sleepMilliseconds(20)
            }
            #expect(eventually(5000) { rig.frontend.failure != nil }, "\(kind) \(toward)")
            #expect("\(rig.frontend.failure.map { "\($0)" } ?? "")".contains("the backend broke the protocol"), "\(kind) \(toward)")
            #expect(try rig.struck() == [1])
        }
    }

    @Test("a frontend's index that cannot be: the backend ends the connection, and serves the next", arguments: FaultSide.allCases)
    func frontIndex(toward: FaultSide) throws {
        try withRig { rig in
            try rig.set(.corruptIndex, .front) { $0.toward = toward }
            // Of pages for reception the backend has taken as many as the ring holds, and looks again when they are
            // used.
            for number in 0..<300 {
                rig.pair.frontWire.offer(plainFrame(100, seed: number))
                rig.pair.backWire.offer(plainFrame(100, seed: number))
                sleepMilliseconds(2)
            }
            #expect(eventually(5000) { rig.pair.backend.log.contains { $0.contains("broke its ring: the peer's producer index") } })
            #expect(eventually(5000) { rig.frontend.connectionCount == 2 && rig.frontend.isLive })
            while try rig.pair.frontWire.receive(milliseconds: 100) != nil {}
            while try rig.pair.backWire.receive(milliseconds: 100) != nil {}
            try rig.clear()
        }
    }

    @Test("a frontend's page that nobody granted: its frame is lost, and no other", arguments: [true, false], FaultSide.allCases)
    func frontGrant(mapped: Bool, toward: FaultSide) throws {
        var options = NetworkFrontendOptions()
        options.mapsGrants = mapped
        try withRig(options) { rig in
            let (from, to) = ends(rig, toward)
            try rig.set(.corruptGrant, .front) {
                $0.count = 1
                $0.toward = toward
            }
            // Pages for reception are posted long before they are used.
            var arrived = 0
            for number in 0..<400 {
                try from.send(plainFrame(100, seed: number))
                if try to.receive(milliseconds: 200) != nil { arrived += 1 }
            }
            #expect(arrived == 399)
            #expect(try rig.struck(.front) == [1])
            try rig.clear()
        }
    }

    @Test("a frontend that is late", arguments: [DeviceFault.delay, .stall]) func frontLate(kind: DeviceFault) throws {
        try withRig { rig in
            try rig.set(kind, .front) {
                $0.count = 1
                $0.milliseconds = 300
                $0.toward = .back
            }
            let begun = monotonicMilliseconds()
            try rig.pair.frontWire.send(plainFrame(100, seed: 1))
            #expect(try rig.pair.backWire.receive()?.frame == plainFrame(100, seed: 1))
            #expect(monotonicMilliseconds() - begun >= 290)
            try rig.clear()
        }
    }
}
