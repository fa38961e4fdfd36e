// One body for every disk under every connector: what is true of a disk is true whoever carries it.

import BlockDevices
import Connectors
import Foundation
import LinuxSystem
import TestSupport
import Testing

/// What stands behind the connector.
enum DiskModel: String, CaseIterable, Sendable {
    case file, null, nbd

    func make(_ scratch: TemporaryDirectory) throws -> any BlockDevice {
        switch self {
        case .file: try openBlockDevice(target: scratch.file(byteCount: 2 << 20), time: .system)
        case .null: NullDisk(byteCount: 2 << 20)
        case .nbd: try openBlockDevice(target: "nbd+unix:///?socket=\(scratch.path)/nbd.sock", time: .system)
        }
    }

    /// Whether it gives back what it was given.
    var remembers: Bool { self != .null }

    /// What has to run meanwhile.
    func server(_ scratch: TemporaryDirectory) throws -> NBDServer? {
        self == .nbd ? try NBDServer(socket: "\(scratch.path)/nbd.sock", "2M") : nil
    }
}

/// nbdkit's memory on a socket, until it is let go of.
final class NBDServer {
    private let process = Process()

    init(socket: String, _ size: String) throws {
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["nbdkit", "--foreground", "--exit-with-parent", "--unix", socket, "memory", size]
        process.standardError = FileHandle.nullDevice
        try process.run()
        guard eventually(10_000, { StreamSocket.isListening(at: socket) }) else { throw TimedOut("nbdkit did not come up") }
    }

    deinit {
        // Asked to end, it would wait for its clients.
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }
}

@Suite(.serialized) struct DiskMatrixTests {
    @Test(.timeLimit(.minutes(1)), arguments: ConnectorKind.allCases, DiskModel.allCases)
    func aDiskIsTheSameUnderEveryConnector(_ connector: ConnectorKind, _ model: DiskModel) throws {
        let (scratch, log) = (try TemporaryDirectory(), LineCollector())
        let server = try model.server(scratch)
        let disk = try connector.connect(model.make(scratch), log: log)
        defer {
            disk.close()
            withExtendedLifetime(server) {}
        }
        #expect(disk.byteCount == 2 << 20)
        // What is written is read back, in pieces of every size, and nothing beside it is touched.
        var expected = [UInt8](repeating: 0, count: 2 << 20)
        var random = SplitMix(11)
        for sectors in [1, 3, 8, 88, 128, 300] {
            let place = Int(random.next() % UInt64(4096 - sectors)) * 512
            let bytes = (0..<sectors * 512).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            try disk.write(at: UInt64(place), bytes)
            expected.replaceSubrange(place..<place + bytes.count, with: bytes)
        }
        try disk.flush()
        if model.remembers { #expect(try disk.read(at: 0, byteCount: 2 << 20) == expected) }
        #expect(try disk.read(at: 2 << 20 - 512, byteCount: 512).count == 512)
        if disk.canWriteZeroes {
            try disk.writeZeroes(at: 4096, byteCount: 8192)
            expected.replaceSubrange(4096..<12288, with: [UInt8](repeating: 0, count: 8192))
            if model.remembers { #expect(try disk.read(at: 0, byteCount: 65536) == Array(expected[..<65536])) }
        }
        if disk.canDiscard {
            // A hint: what is outside stays.
            try disk.discard(at: 65536, byteCount: 65536)
            if model.remembers {
                #expect(try disk.read(at: 0, byteCount: 65536) == Array(expected[..<65536]))
                #expect(try disk.read(at: 131_072, byteCount: 65536) == Array(expected[131_072..<196_608]))
            }
        }
        // Past the end is an error, and the disk goes on.
        #expect(throws: (any Error).self) { try disk.write(at: 2 << 20, [UInt8](repeating: 1, count: 512)) }
        #expect(throws: (any Error).self) { try disk.read(at: 2 << 20 - 512, byteCount: 1024) }
        try disk.write(at: 0, [UInt8](repeating: 7, count: 512))
        if model.remembers { #expect(try disk.read(at: 0, byteCount: 512) == [UInt8](repeating: 7, count: 512)) }
        #expect(log.all.filter { !$0.contains(": connected: ") } == [])
    }

    /// A file's disk has these under every connector that has them at all.
    @Test(.timeLimit(.minutes(1)), arguments: ConnectorKind.allCases)
    func whatAFileCanDoIsOffered(_ connector: ConnectorKind) throws {
        let scratch = try TemporaryDirectory()
        let disk = try connector.connect(DiskModel.file.make(scratch), log: LineCollector())
        defer { disk.close() }
        #expect(disk.canDiscard)
        #expect(disk.canWriteZeroes == (connector != .xen))
    }
}
