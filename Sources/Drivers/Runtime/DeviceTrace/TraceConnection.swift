// The tracer's end: asks a backend for a device, then reads its ring.

import Glibc
import LinuxSystem
import SharedMemory

/// Why there is no trace.
public enum TraceError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Nobody listens there, or whoever does cannot be asked.
    case unreachable(path: String, Errno)
    /// The backend said no, and why.
    case refused(String)
    /// It answered what makes no sense, or its ring makes none.
    case malformed(String)

    /// One line.
    public var description: String {
        switch self {
        case .unreachable(let path, let error): "\(path): \(error)"
        case .refused(let reason): reason
        case .malformed(let what): "the backend's \(what) makes no sense; is it of another version?"
        }
    }
}

/// What a wait ended with.
public enum TraceWait: Equatable, Sendable {
    /// There are records, or may be.
    case records
    /// The device is gone, or its backend.
    case ended
    /// `stop` was readable.
    case stopped
    /// Nobody reads the output any more.
    case outputClosed
}

/// One trace under way. Owned by one thread.
public final class TraceConnection<Record: TracedRecord> {
    /// What is traced.
    public let subject: TraceSubject
    private let socket: Descriptor
    private let bell: Descriptor
    private var reader: RecordReader

    /// Connects to the backend at `path`.
    public init(path: String, _ request: TraceRequest) throws(TraceError) {
        do throws(Errno) {
            socket = try PacketSocket.connect(path)
            try PacketSocket.send(socket, request.bytes)
        } catch { throw .unreachable(path: path, error) }
        var message: [UInt8]
        var descriptors: [Descriptor]
        do throws(Errno) { (message, descriptors) = try PacketSocket.receive(socket, descriptors: 2) } catch {
            throw .unreachable(path: path, error)
        }
        switch TraceAnswer(message) {
        case .refused(let reason): throw .refused(reason)
        case .accepted(let subject):
            let byteCount = RecordRing.byteCount(capacity: request.capacity)
            guard descriptors.count == 2, RecordRing.isCapacity(request.capacity),
                SealedMemory.isSealed(descriptors[0], byteCount: byteCount)
            else { throw .malformed("memory") }
            self.subject = subject
            bell = descriptors[1]
            do throws(Errno) {
                reader = RecordReader(try SharedRegion(mapping: descriptors[0], byteCount: byteCount, writable: true))
            } catch { throw .unreachable(path: path, error) }
        case nil: throw .malformed("answer")
        }
        message = []
        descriptors = []
    }

    /// The next record; nil if there is none now.
    public func next() throws(TraceError) -> Record? {
        guard let (offset, count) = reader.next() else {
            if reader.isBroken { throw .malformed("ring") }
            return nil
        }
        var record: Record?
        if count >= TraceHeader.byteCount {
            record = Record(
                TraceHeader(reader.region, offset), reader.region, offset + TraceHeader.byteCount, count - TraceHeader.byteCount)
        }
        reader.release()
        guard let record else { throw .malformed("record") }
        return record
    }

    /// Records lost so far; wraps.
    public var lost: UInt32 { reader.lost }

    /// Waits until there is a record, or something ends.
    /// - Parameters:
    ///   - stop: a descriptor that becomes readable when the trace is to end.
    ///   - output: where the trace goes; nil: not looked at.
    public func wait(stop: Int32, output: Int32?) -> TraceWait {
        while true {
            drainPipe(bell)
            if reader.requestRecords() { return .records }
            // What was written before the end has been read by now.
            if reader.hasEnded { return reader.requestRecords() ? .records : .ended }
            var entries = [
                pollfd(fd: bell.rawValue, events: Int16(POLLIN), revents: 0), pollfd(fd: stop, events: Int16(POLLIN), revents: 0),
                pollfd(fd: socket.rawValue, events: Int16(POLLIN), revents: 0), pollfd(fd: output ?? -1, events: 0, revents: 0),
            ]
            guard let ready = try? waitForEvents(&entries, milliseconds: -1), ready > 0 else { continue }
            if entries[1].revents != 0 { return .stopped }
            if entries[3].revents & Int16(POLLERR) != 0 { return .outputClosed }
            if entries[0].revents & Int16(POLLIN) != 0 { return .records }
            // The backend is gone, which hangs up its bell, too; what it had written is still there.
            if entries[0].revents != 0 || entries[2].revents != 0 { return reader.requestRecords() ? .records : .ended }
        }
    }
}
