// Where an NBD server of this command listens, as people write it.

import LinuxSystem

/// An address, and the name of what is served there.
package enum NBDAddress: Equatable, Sendable {
    /// A Unix socket.
    case file(String, export: String?)
    /// TCP, on this machine's own address.
    case loopback(LoopbackAddress, export: String?)

    /// The port that NBD has (IANA).
    private static let standardPort: UInt16 = 10809

    /// A path, `nbd+unix:///NAME?socket=PATH`, or `nbd://HOST[:PORT][/NAME]` with a host of this machine's own.
    package init(_ text: String) throws(Failure) {
        guard let scheme = text.firstRange(of: "://") else {
            self = .file(text, export: nil)
            try checkLength()
            return
        }
        let rest = text[scheme.upperBound...]
        switch text[..<scheme.lowerBound] {
        case "nbd": self = try Self.loopback(rest, text)
        case "nbd+unix":
            let parts = rest.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, parts[0].hasPrefix("/"), parts[1].hasPrefix("socket="),
                let path = String(parts[1].dropFirst("socket=".count)).percentDecoded, !path.isEmpty
            else { throw .usage("--nbd: \(text): nbd+unix:///NAME?socket=PATH is the form") }
            self = .file(path, export: try Self.name(parts[0].dropFirst(), text))
        case "nbds", "nbds+unix":
            throw .usage("--nbd: \(text): no TLS here; nbdkit has it, with the plugin: nbdkit --tls=require libCausewayNBD.so …")
        default: throw .usage("--nbd: \(text): a socket's path, nbd://127.0.0.1:PORT/NAME or nbd+unix:///NAME?socket=PATH")
        }
        try checkLength()
    }

    private static func loopback(_ rest: Substring, _ text: String) throws(Failure) -> NBDAddress {
        let parts = rest.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        let address = try LoopbackAddress(parts[0], port: standardPort, subject: "--nbd: \(text)")
        return .loopback(address, export: parts.count > 1 ? try name(parts[1], text) : nil)
    }

    private static func name(_ part: Substring, _ text: String) throws(Failure) -> String? {
        if part.isEmpty { return nil }
        guard let name = String(part).percentDecoded, name.utf8.count <= 255 else {
            throw .usage("--nbd: \(text): an export's name has 255 bytes at most")
        }
        return name
    }

    private func checkLength() throws(Failure) {
        if case .file(let path, _) = self, path.utf8.count > 107 { throw .usage("--nbd: \(path): too long for a socket's path") }
    }

    /// The export's name, if one was given.
    package var export: String? {
        switch self {
        case .file(_, let export), .loopback(_, let export): export
        }
    }
}
