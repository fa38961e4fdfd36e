// One trace from its first packet to its last: reads records, encodes them, writes them out, and ends with a complete
// file.

import CommandSupport
import DeviceTrace
import LinuxSystem

struct TraceSession<Record: TracedRecord> {
    private let connection: TraceConnection<Record>
    private let output: TraceOutput
    private let asText: Bool
    private let limit: Int
    private let loudness: QuietOption
    private let stop: Int32
    private var encoder: PcapngEncoder
    /// Lines not yet written, as text.
    private var lines: [UInt8] = []

    /// A reader who takes nothing is given so long, in milliseconds, once the trace is to end.
    private static var patience: Int32 { 1000 }
    /// What is encoded at most before it is written.
    private static var batch: Int { 1 << 18 }

    init(
        _ connection: TraceConnection<Record>, _ descriptor: Descriptor, asText: Bool, snaplen: Int, limit: Int?, stop: Descriptor,
        loudness: QuietOption
    ) {
        self.loudness = loudness
        self.connection = connection
        output = TraceOutput(descriptor)
        self.asText = asText
        self.limit = limit ?? .max
        self.stop = stop.rawValue
        encoder = PcapngEncoder(
            connection.subject, linkType: Record.linkType, snaplen: Record.kind == .disk ? 0 : snaplen,
            at: SystemTime().calendarNanoseconds)
    }

    consuming func run() throws(Failure) {
        var isOver = false
        var failure: TraceError?
        while !isOver {
            do throws(TraceError) {
                while pending < Self.batch, encoder.packetCount < limit, let record = try connection.next() { add(record) }
            } catch {
                failure = error
                break
            }
            if encoder.packetCount >= limit { break }
            // What is there goes out before anybody sleeps, so that whoever reads along sees it at once.
            if pending > 0 {
                switch try flush() {
                case .all: continue
                case .closed: return
                case .stopped: throw Failure("trace: nobody reads what is written; the file is cut off")
                }
            }
            switch connection.wait(stop: stop, output: output.watched) {
            case .records: break
            case .ended:
                loudness.note("trace: \(connection.subject.name): the \(Record.kind) is gone")
                isOver = true
            case .stopped: isOver = true
            case .outputClosed: return
            }
        }
        encoder.statistics(at: SystemTime().calendarNanoseconds, lost: connection.lost)
        _ = try flush()
        let lost = encoder.lostCount
        let sum = "trace: \(encoder.packetCount) packets"
        if lost > 0 {
            complain("\(sum), \(lost) lost: written too slowly; try --buffer or --snaplen")
        } else {
            loudness.note(sum)
        }
        if let failure { throw Failure("trace: \(failure)") }
    }

    private var pending: Int { asText ? lines.count : encoder.bytes.count }

    private mutating func add(_ record: Record) {
        encoder.packet(record)
        guard asText else { return }
        encoder.bytes.removeAll(keepingCapacity: true)
        let seconds = record.header.nanoseconds / 1_000_000_000
        let fraction = String(record.header.nanoseconds % 1_000_000_000 + 1_000_000_000).dropFirst()
        lines += Array("\(seconds).\(fraction) \(record.lines.joined(separator: "\n    "))\n".utf8)
    }

    private mutating func flush() throws(Failure) -> TraceOutput.Written {
        let bytes = asText ? lines : encoder.bytes
        lines.removeAll(keepingCapacity: true)
        encoder.bytes.removeAll(keepingCapacity: true)
        do throws(Errno) { return try output.write(bytes, stop: stop, patience: Self.patience) } catch {
            throw Failure("trace: writing: \(error)")
        }
    }
}
