// A pair whose disk goes wrong on purpose, and what a test asks of it.

import BlockBackend
import BlockDevices
import BlockFrontend
import DeviceControl
import DeviceFaults
import DriverRuntime
import LinuxSystem
import TestHosts
import Testing
import TestSupport

/// One disk, both of whose ends take faults.
struct FaultRig {
    let pair: BlockPair
    let frontend: BlockFrontend<TestHypervisor>

    init(
        _ options: BlockFrontendOptions = BlockFrontendOptions(), _ backend: BlockBackendOptions = BlockBackendOptions(),
        opener: DiskOpener? = nil
    ) throws {
        var (options, backend) = (options, backend)
        options.takesFaults = true
        backend.takesFaults = true
        pair = try BlockPair(backendOptions: backend, opener: opener)
        frontend = try pair.connect(options)
    }

    func end() {
        frontend.close()
        pair.backend.stop()
    }

    /// The disk as whoever looks after the backend has it.
    var device: any ControlledDevice {
        get throws {
            try #require(pair.backend.service.controlled { _ in DeviceCounters(read: { [] }, carryOver: { _ in }) }.first)
        }
    }

    /// Asks the backend as its process would be.
    func ask(_ request: ControlRequest) throws -> ControlAnswer {
        // As a line, for that is how it comes.
        try ControlRequest(request.line).answer([try device])
    }

    /// Sets a fault, on its side.
    func set(_ kind: DeviceFault, _ side: FaultSide = .back, _ change: (inout FaultPlan) -> Void = { _ in }) throws {
        var plan = FaultPlan(kind)
        plan.side = side
        change(&plan)
        if side == .back {
            guard case .done = try ask(.setFault(device: "vbd-1/51712", plan)) else { throw TestFailure("not set: \(kind)") }
        } else {
            _ = try #require(frontend.faults).set(plan)
        }
    }

    /// How often each of a side's has struck.
    func struck(_ side: FaultSide = .back) throws -> [UInt64] {
        if side == .front { return try #require(frontend.faults).records.map(\.struck) }
        guard case .allowed(let book) = try device.faults else { return [] }
        return book.records.map(\.struck)
    }

    /// Undoes all, on both sides.
    func clear() throws {
        #expect(try ask(.clearFault(device: "vbd-1/51712", name: "all")) != .refused(""))
        _ = try frontend.faults?.clear("all")
    }

    /// Writes and reads back, and takes no time over it.
    func expectHealth(_ queue: inout BlockQueue, seed: UInt64 = 5, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let begun = monotonicMilliseconds()
        for place in 0..<8 {
            queue.buffer.fill(0, count: 4096, with: UInt8(truncatingIfNeeded: seed &+ UInt64(place)))
            let sector = UInt64(place * 8)
            #expect(try queue.perform(.write, sector: sector, byteCount: 4096) == .okay, sourceLocation: sourceLocation)
            queue.buffer.fill(0, count: 4096, with: 0)
            #expect(try queue.perform(.read, sector: sector, byteCount: 4096) == .okay, sourceLocation: sourceLocation)
            #expect(
                queue.buffer.bytes(at: 0, count: 4096)
                    == [UInt8](repeating: UInt8(truncatingIfNeeded: seed &+ UInt64(place)), count: 4096),
                sourceLocation: sourceLocation)
        }
        #expect(monotonicMilliseconds() - begun < 2000, sourceLocation: sourceLocation)
    }
}

/// Why a test cannot go on.
struct TestFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
