// Where this command listens for TCP: on the machine's own address, and nowhere else.

/// An address of this machine's own, and a port.
package struct LoopbackAddress: Equatable, Sendable {
    package var port: UInt16
    package var isSix: Bool

    package init(port: UInt16, isSix: Bool) {
        self.port = port
        self.isSix = isSix
    }

    /// HOST, HOST:PORT, and where `hostless` :PORT or PORT alone; HOST is 127.0.0.1, [::1] or localhost.
    /// - Parameter subject: what the text is of, for messages: `--listen: 10.0.0.1:80`.
    package init(_ text: Substring, port usual: UInt16, hostless: Bool = false, subject: String) throws(Failure) {
        let isSix = text.hasPrefix("[::1]")
        var host = isSix ? "[::1]" : String(text.prefix { $0 != ":" })
        var behind = text.dropFirst(host.count)
        if hostless, host.isEmpty || UInt16(host) != nil {
            if !host.isEmpty { behind = ":" + text }
            host = "127.0.0.1"
        }
        guard isSix || host == "127.0.0.1" || host == "localhost" else {
            throw .usage("\(subject): \(host.isEmpty ? "no host" : host) is not this machine's own; 127.0.0.1, [::1] or localhost")
        }
        self.isSix = isSix
        if behind.isEmpty {
            port = usual
        } else {
            guard behind.hasPrefix(":"), let number = UInt16(behind.dropFirst()) else { throw .usage("\(subject): not a port") }
            port = number
        }
    }

    /// Its host, as a URL has it.
    package var host: String { isSix ? "[::1]" : "127.0.0.1" }
}
