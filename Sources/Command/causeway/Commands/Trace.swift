// causeway trace: a running disk's requests, or an interface's packets with their ring slots, as pcapng or as text.

import ArgumentParser
import BlockTrace
import CommandSupport
import DeviceTrace
import Glibc
import LinuxSystem
import NetworkTrace
import Toolstack
import XenStore
import XenTypes

struct Trace: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows a running disk's requests or an interface's packets, or writes them as pcapng for Wireshark.",
        discussion: """
            DOMAIN is a name or a number; DEVICE a disk's name, such as xvda, an interface's number or its Ethernet address. Without -w, one
            line for each request and answer, or packet, and one for each segment or slot.

              causeway trace 1/xvda
              causeway trace 1/0
              causeway trace 1/0 -w trace.pcapng
              causeway trace 1/0 -w - | tcpdump -n -r -

            Each packet's comments are its ring slots: ids, pages, offsets, sizes, flags, extra information, and how it was answered. Directions
            are those of the backend's side: what the frontend transmits comes in. Large packets are seen as they are on the ring, with
            blank checksums, before anybody cuts them up. Neither ever waits for a trace: packets for which there is no room are lost
            to it, and counted in the file's interface statistics.
            Of a disk, each request is a packet when it is taken, and each answer, with the time between. In a file they are this project's own
            kind of packet, which causeway-blkif.lua tells Wireshark of: wireshark -X lua_script:causeway-blkif.lua trace.pcapng
            Ends when interrupted, after --count packets, or when the device or its backend is gone; always with a complete file.
            """)

    @OptionGroup var host: HostOptions
    @OptionGroup var loudness: QuietOption
    @Argument(help: ArgumentHelp("The disk or interface.", valueName: "domain/device")) var target: String
    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("The file to write, in pcapng; `-` is standard output.", valueName: "file"))
    var write: String?
    @Option(help: "Bytes of each packet that are kept.") var snaplen = 262_144
    @Option(help: "Ends after so many packets.") var count: Int?
    @Option(help: "Memory for packets that wait to be written, in bytes or with K, M or G; rounded up to a power of two.")
    var buffer: ByteSize?
    @Option(help: "The domain whose backend serves the interface; needed only on Xen, and there only if it is not 0.")
    var backend: UInt16?

    func validate() throws {
        guard (0...262_144).contains(snaplen) else { throw ValidationError("--snaplen: 0 to 262144, not \(snaplen)") }
        if let count, count < 1 { throw ValidationError("--count: at least 1, not \(count)") }
        if let buffer, buffer.byteCount > 1 << 30 { throw ValidationError("--buffer: at most 1G") }
        guard target.split(separator: "/", omittingEmptySubsequences: false).count == 2 else {
            throw ValidationError("`\(target)` is not of the form DOMAIN/DEVICE, such as 1/xvda or 1/0")
        }
    }

    func run() throws {
        Signals.block(Signals.termination)
        if write == "-", isatty(1) == 1 { throw Failure.usage("-w -: standard output is a terminal; redirect it, or leave -w out") }
        let stop: WakePipe
        do { stop = try WakePipe() } catch { throw Failure("trace: \(error)") }
        let writer = stop.writer
        try onTermination { signalPipe(writer) }
        let (path, request, hostless) = try locate()
        switch request.kind {
        case .disk: try record(BlockTraceRecord.self, path, request, hostless, stop: stop.reader)
        case .interface: try record(TraceRecord.self, path, request, hostless, stop: stop.reader)
        }
        withExtendedLifetime(stop) {}
    }

    private func record<Record: TracedRecord>(
        _: Record.Type, _ path: String, _ request: TraceRequest, _ hostless: Failure?, stop: Descriptor
    ) throws {
        let connection: TraceConnection<Record>
        do { connection = try TraceConnection(path: path, request) } catch .unreachable(let path, let error) {
            if let hostless, !RunDirectory.isOnXen { throw hostless }
            throw Failure("trace: \(path): no backend answers there (\(error)); is `causeway backend` running?")
        } catch { throw Failure("trace: \(target): \(error)") }
        try TraceSession(
            connection, try openOutput(), asText: write == nil, snaplen: snaplen, limit: count, stop: stop, loudness: loudness
        )
        .run()
    }

    private func openOutput() throws(Failure) -> Descriptor {
        do throws(Errno) {
            // What crosses an interface is for its owner's eyes.
            if let write, write != "-" { return try Descriptor.open(write, O_WRONLY | O_CREAT | O_TRUNC) }
            return Descriptor(owning: try retryingInterrupts { fcntl(1, F_DUPFD_CLOEXEC, 3) })
        } catch { throw Failure("trace: \(write ?? "stdout"): \(error)") }
    }

    /// The backend's socket, what to ask for, and why no host could be asked. On a loopback host the store knows names,
    /// addresses and backends; elsewhere numbers must do.
    private func locate() throws -> (path: String, TraceRequest, hostless: Failure?) {
        let directory = try host.directory()
        let words = target.split(separator: "/").map(String.init)
        var capacity = 1 << 18
        while capacity < buffer?.byteCount ?? 1 << 22 { capacity *= 2 }
        let store: StoreClient
        do throws(Failure) { store = try directory.connectStore() } catch {
            guard words.count == 2, let domain = UInt16(words[0]),
                let number = UInt32(words[1]) ?? DeviceArgument.disk(words[1])?.number
            else {
                throw Failure("trace: \(target): only numbers, such as 1/0, do without the store: \(error)")
            }
            return (
                TraceService.path(in: directory.path, backend: DomainID(backend ?? 0)),
                TraceRequest(
                    DeviceArgument.disk(words[1]) == nil ? .interface : .disk, domain: DomainID(domain), number: number,
                    snaplen: snaplen,
                    capacity: capacity),
                error
            )
        }
        defer { store.close() }
        let guest = try Guests.find(words.first ?? "", in: store)
        if let disk = DeviceArgument.disk(words.last ?? "") {
            let found = try failing("trace") { try DeviceDirectories(store: store).find(disk, of: guest) }
            return (
                TraceService.path(in: directory.path, backend: found.paths.backend),
                TraceRequest(.disk, domain: guest, number: found.paths.device, snaplen: snaplen, capacity: capacity),
                nil
            )
        }
        let found = try failing("trace") { try DeviceDirectories(store: store).findInterface(words.last ?? "", of: guest) }
        return (
            TraceService.path(in: directory.path, backend: found.paths.backend),
            TraceRequest(domain: guest, number: found.paths.device, snaplen: snaplen, capacity: capacity),
            nil
        )
    }

}
