// A backend's tracing socket: who may come in, what they get, and what is left when they go.

@testable import DeviceTrace
import Foundation
import LinuxSystem
@testable import NetworkTrace
import SharedMemory
import Synchronization
import Testing
import TestSupport
import XenTypes

/// One interface, 1/0, and the taps on it.
final class OneSubject: TraceSubjects {
    let taps = Mutex<[TraceTap]>([])
    func attach(_ tap: TraceTap, to request: TraceRequest) -> TraceSubject? {
        guard request.kind == .interface, request.domain == DomainID(1), request.number == 0 else { return nil }
        taps.withLock { $0.append(tap) }
        return PcapngTests.subject
    }
    func detach(_ tap: TraceTap) { taps.withLock { $0.removeAll { $0 === tap } } }
    var count: Int { taps.withLock { $0.count } }
}

func soon(_ condition: () -> Bool) -> Bool {
    let deadline = monotonicMilliseconds() + 3000
    while !condition() {
        if monotonicMilliseconds() > deadline { return false }
        sleepMilliseconds(2)
    }
    return true
}

@Suite(.serialized, .timeLimit(.minutes(1))) struct ServiceTests {
    private func path() -> String { FileManager.default.temporaryDirectory.path + "/cw-trace-\(UUID().uuidString.prefix(8)).sock" }

    @Test func onlyTheOwnerMayConnectAndNothingIsLeft() throws {
        let baseline = Descriptor.openCount
        do {
            let (path, subject) = (path(), OneSubject())
            // Somebody dead left its socket.
            #expect(FileManager.default.createFile(atPath: path, contents: nil))
            let service = try TraceService(path: path, subjects: subject, time: .system)
            let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
            #expect(mode == 0o600)
            let connection = try TraceConnection<TraceRecord>(path: path, TraceRequest(domain: DomainID(1), number: 0))
            #expect(connection.subject == PcapngTests.subject)
            #expect(subject.count == 1)
            subject.taps.withLock { $0[0].write(TraceEvent(.note, queue: 0, text: "seen")) }
            let stop = try WakePipe()
            #expect(connection.wait(stop: stop.reader.rawValue, output: nil) == .records)
            #expect(try connection.next()?.text == "seen")
            #expect(try connection.next() == nil)
            signalPipe(stop.writer)
            #expect(connection.wait(stop: stop.reader.rawValue, output: nil) == .stopped)
            drainPipe(stop.reader)
            subject.taps.withLock { $0[0].end() }
            #expect(connection.wait(stop: stop.reader.rawValue, output: nil) == .ended)
            service.stop()
            #expect(!FileManager.default.fileExists(atPath: path))
            #expect(subject.count == 0)
        }
        #expect(soon { Descriptor.openCount == baseline })
    }

    @Test func aReaderThatGoesIsForgottenAndABackendThatGoesIsNoticed() throws {
        let (path, subject) = (path(), OneSubject())
        let service = try TraceService(path: path, subjects: subject, time: .system)
        do { _ = try TraceConnection<TraceRecord>(path: path, TraceRequest(domain: DomainID(1), number: 0)) }
        #expect(soon { subject.count == 0 })
        let connection = try TraceConnection<TraceRecord>(path: path, TraceRequest(domain: DomainID(1), number: 0))
        subject.taps.withLock { $0[0].write(TraceEvent(.note, queue: 0, text: "last")) }
        service.stop()
        let stop = try WakePipe()
        // What was written before the end is still read.
        #expect(connection.wait(stop: stop.reader.rawValue, output: nil) == .records)
        #expect(try connection.next()?.text == "last")
        #expect(connection.wait(stop: stop.reader.rawValue, output: nil) == .ended)
    }

    @Test func whatCannotBeIsRefusedInWords() throws {
        let (path, subject) = (path(), OneSubject())
        let service = try TraceService(path: path, subjects: subject, time: .system)
        #expect(throws: TraceError.refused("this backend serves no interface 2/7")) {
            _ = try TraceConnection<TraceRecord>(path: path, TraceRequest(domain: DomainID(2), number: 7))
        }
        #expect(throws: TraceError.refused("this backend serves no disk 1/0")) {
            _ = try TraceConnection<TraceRecord>(path: path, TraceRequest(.disk, domain: DomainID(1), number: 0))
        }
        for capacity in [0, 5000, 1 << 17, 3 << 18] {
            #expect(throws: TraceError.self) {
                _ = try TraceConnection<TraceRecord>(path: path, TraceRequest(domain: DomainID(1), number: 0, capacity: capacity))
            }
        }
        for message in [[], [1, 2, 3], [UInt8](repeating: 0xFF, count: 28), [UInt8](repeating: 0, count: 4000)] as [[UInt8]] {
            let socket = try PacketSocket.connect(path)
            try? PacketSocket.send(socket, message)
            // Turned away without a word: the end of the stream, or a reset.
            let answer = try? PacketSocket.receive(socket, descriptors: 2)
            #expect(answer?.0.isEmpty ?? true)
        }
        #expect(subject.count == 0)
        let connection = try TraceConnection<TraceRecord>(path: path, TraceRequest(domain: DomainID(1), number: 0))
        #expect(connection.subject.name == "vif1.0")
        service.stop()
    }

    @Test func idlersDoNotKeepOthersOutForEver() throws {
        let (path, subject) = (path(), OneSubject())
        let service = try TraceService(path: path, subjects: subject, time: .system)
        var idlers = try (0..<TraceService.mostTracers).map { _ in try PacketSocket.connect(path) }
        let thread = try WorkerThread(name: "late") {
            _ = try? TraceConnection<TraceRecord>(path: path, TraceRequest(domain: DomainID(1), number: 0))
        }
        sleepMilliseconds(50)
        idlers.removeAll()
        thread.join()
        #expect(soon { subject.count == 0 })
        service.stop()
    }

    @Test func aSuccessorKeepsItsSocket() throws {
        let path = path()
        let first = try TraceService(path: path, subjects: OneSubject(), time: .system)
        let second = try TraceService(path: path, subjects: OneSubject(), time: .system)
        first.stop()
        _ = try TraceConnection<TraceRecord>(path: path, TraceRequest(domain: DomainID(1), number: 0))
        second.stop()
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    /// A tracer that writes nonsense into the ring that it shares: the backend goes on.
    @Test func aHostileTracerHarmsNobody() throws {
        let tap = try TraceTap(capacity: 1 << 18, snaplen: 100, time: .system)
        let shared = try SharedRegionUnderTest(tap)
        for number in 0..<10_000 {
            shared.scribble()
            tap.write(TraceEvent(.note, queue: 0, text: "note \(number)"))
        }
    }
}

/// The tracer's view of a tap's memory.
struct SharedRegionUnderTest {
    private let region: SharedRegion
    init(_ tap: TraceTap) throws {
        region = try SharedRegion(mapping: tap.memory.descriptor, byteCount: tap.memory.byteCount, writable: true)
    }
    func scribble() {
        for place in stride(from: 0, to: 512, by: 64) { region.storeRelaxed(UInt32.random(in: 0...UInt32.max), at: place) }
    }
}
