// Just as much of HTTP as a scraper needs, on this machine's own address.

import CommandSupport
import Glibc
import LinuxSystem

/// Answers one request after the other: a scraper comes every few seconds.
final class MetricsServer: Sendable {
    /// Where it listens unless told otherwise.
    static let usualPort: UInt16 = 9834
    /// Where it listens.
    let port: UInt16
    private let listener: Descriptor
    private let lines: @Sendable () throws(Failure) -> [String]

    /// A request's bytes at most, and for how many seconds anybody is waited for.
    private static let mostBytes = 8192
    private static let patience = 2

    init(_ address: LoopbackAddress, _ lines: @escaping @Sendable () throws(Failure) -> [String]) throws(Failure) {
        do throws(Errno) {
            (listener, port) = try LoopbackSocket.listen(port: address.port, isSix: address.isSix)
        } catch { throw Failure("metrics: --listen: \(address.host):\(address.port): \(error)") }
        self.lines = lines
    }

    /// Ends `run`. From any thread.
    func stop() { listener.shutDown() }

    /// Serves until `stop`.
    func run() {
        while true {
            var entries = [pollfd(fd: listener.rawValue, events: Int16(POLLIN), revents: 0)]
            guard let ready = try? waitForEvents(&entries, milliseconds: -1), ready > 0 else { continue }
            do throws(Errno) {
                guard let peer = try StreamSocket.accept(listener) else { continue }
                answer(peer)
            } catch { return }
        }
    }

    private func answer(_ peer: Descriptor) {
        try? peer.setTimeout(SO_RCVTIMEO, seconds: Self.patience)
        try? peer.setTimeout(SO_SNDTIMEO, seconds: Self.patience)
        guard let request = request(peer) else { return }
        let words = request.prefix { $0 != "\r\n" && $0 != "\n" }.split(separator: " ")
        guard words.count == 3, words[2].hasPrefix("HTTP/1.") else { return send(peer, "400 Bad Request", "no request\n") }
        guard words[0] == "GET" || words[0] == "HEAD" else { return send(peer, "405 Method Not Allowed", "only GET\n") }
        guard words[1] == "/metrics" || words[1].hasPrefix("/metrics?") else {
            return send(peer, "404 Not Found", "only /metrics is here\n")
        }
        do throws(Failure) {
            let text = try lines().map { $0 + "\n" }.joined()
            send(peer, "200 OK", text, isHeadOnly: words[0] == "HEAD")
        } catch { send(peer, "503 Service Unavailable", "\(error)\n") }
    }

    /// Its lines up to the empty one; nil: there is no such, or it takes too long to say.
    private func request(_ peer: Descriptor) -> String? {
        let time = SystemTime()
        let end = time.nanoseconds + UInt64(Self.patience) * 1_000_000_000
        var bytes: [UInt8] = []
        while bytes.count < Self.mostBytes {
            // Whoever says it byte by byte has no more time than others.
            let now = time.nanoseconds
            var entries = [pollfd(fd: peer.rawValue, events: Int16(POLLIN), revents: 0)]
            guard now < end, let ready = try? waitForEvents(&entries, milliseconds: Int32((end - now) / 1_000_000)), ready > 0,
                let more = try? StreamSocket.receive(peer.rawValue, capacity: 2048, wait: true), !more.isEmpty
            else { return nil }
            bytes += more
            if bytes.suffix(4) == [13, 10, 13, 10] || bytes.suffix(2) == [10, 10] {
                return String(decoding: bytes, as: UTF8.self)
            }
        }
        return nil
    }

    private func send(_ peer: Descriptor, _ status: String, _ text: String, isHeadOnly: Bool = false) {
        let type = status.hasPrefix("200") ? "text/plain; version=0.0.4; charset=utf-8" : "text/plain; charset=utf-8"
        let head =
            "HTTP/1.1 \(status)\r\nContent-Type: \(type)\r\nContent-Length: \(text.utf8.count)\r\nConnection: close\r\n\r\n"
        var bytes = Array((head + (isHeadOnly ? "" : text)).utf8)[...]
        while !bytes.isEmpty {
            guard let sent = try? StreamSocket.send(peer.rawValue, bytes, wait: true), sent > 0 else { return }
            bytes = bytes.dropFirst(sent)
        }
    }
}
