// What can be wrong with an NBD URI before anybody is asked to connect to it, in a sentence of its own. What is right
// about it libnbd says.

extension DeviceTarget {
    /// NBD's schemes (nbd_connect_uri(3)).
    static let schemes = ["nbd", "nbds", "nbd+unix", "nbds+unix", "nbd+vsock", "nbds+vsock"]

    /// Why `uri`, which begins with one of `schemes` and `://`, cannot be connected to; nil: nothing that can be seen.
    static func mistake(in uri: String, scheme: String) -> String? {
        let rest = uri.dropFirst(scheme.count + "://".count)
        let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        let socket = query(of: rest, "socket")
        if scheme.hasSuffix("+unix") {
            let form = "\(scheme):///EXPORT?socket=PATH"
            guard authority.isEmpty else { return "\"\(authority)\" is taken for a host, and a Unix socket has none: \(form)" }
            guard let socket else { return "it names no socket: \(form)" }
            guard !socket.isEmpty else { return "the socket's path is empty: \(form)" }
            if byteCount(decoded: socket) > 107 { return "the socket's path is longer than 107 bytes" }
            return nil
        }
        if socket != nil { return "a socket= is for \(scheme.hasPrefix("nbds") ? "nbds" : "nbd")+unix:///EXPORT?socket=PATH" }
        // An address of IPv6 has colons of its own, in brackets.
        let afterUser = authority.split(separator: "@", omittingEmptySubsequences: false).last ?? authority
        let afterHost = afterUser.hasPrefix("[") ? afterUser.drop { $0 != "]" }.dropFirst() : afterUser.drop { $0 != ":" }
        guard let colon = afterHost.first else { return nil }
        let port = afterHost.dropFirst()
        let largest: UInt32 = scheme.hasSuffix("+vsock") ? .max : 65535
        guard colon == ":", port.isEmpty || UInt32(port).map({ (1...largest).contains($0) }) == true else {
            return "\"\(afterHost)\" is no port: \(scheme)://HOST:PORT/EXPORT"
        }
        return nil
    }

    /// What a scheme that lost its slashes, or is none of NBD's, was meant to be; nil: a path may begin so.
    /// - Parameter scheme: what stands before the first colon.
    static func mistake(inWords text: String, scheme: String) -> String? {
        let rest = text.dropFirst(scheme.count + 1)
        if schemes.contains(scheme), !rest.hasPrefix("//") {
            let unix = scheme.hasPrefix("nbds") ? "nbds+unix" : "nbd+unix"
            let isSocket = scheme.hasSuffix("+unix") || rest.hasPrefix("unix:") || rest.hasPrefix("/")
            let path = rest.hasPrefix("unix:") ? rest.dropFirst("unix:".count) : rest
            return "a URI has two slashes behind its colon: "
                + (isSocket ? "\(unix):///?socket=\(path.prefix { $0 != "?" })" : "\(scheme)://\(rest)")
        }
        if rest.hasPrefix("//") {
            return
                "nothing here speaks \(scheme); a path, null:SIZE, rbd:POOL/IMAGE or an NBD URI (\(schemes.joined(separator: ", "))) is what can be "
                + "served, and nbdkit makes NBD of much else"
        }
        return nil
    }

    private static func query(of text: Substring, _ name: String) -> Substring? {
        let query = text.drop { $0 != "?" }.dropFirst().prefix { $0 != "#" }
        // `;` is the older form of `&`.
        let pairs = query.split { $0 == "&" || $0 == ";" }
        return pairs.last { $0 == name || $0.hasPrefix("\(name)=") }.map { $0.drop { $0 != "=" }.dropFirst() }
    }

    private static func byteCount(decoded text: Substring) -> Int {
        text.utf8.count - 2 * text.utf8.count(where: { $0 == UInt8(ascii: "%") })
    }
}
