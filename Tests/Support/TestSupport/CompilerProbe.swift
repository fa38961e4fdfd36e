// Asks the C compiler what Xen's headers mean on an architecture: a claim is a static assertion, and nothing is linked
// or run.

import Foundation

/// Claims about Xen's public headers, put to a C compiler.
public struct CompilerProbe {
    /// Flags that choose the architecture: `-m32`, `-m64`, or none for this host's own.
    public var flags: [String] = []
    /// C expressions that must be true.
    public var claims: [String] = []

    /// Nothing claimed yet.
    public init(flags: [String] = []) { self.flags = flags }

    /// Claims that a C expression has this value.
    public mutating func expect(_ expression: String, _ value: Int) { claims.append("(long long)(\(expression)) == \(value)LL") }

    /// What the compiler has against the claims; empty if all hold.
    public func objections() throws -> String {
        let source =
            """
            #define __XEN_INTERFACE_VERSION__ 0x00040e00
            #include <stdint.h>
            #include <stddef.h>
            #include <xen/xen.h>
            #include <xen/grant_table.h>
            #include <xen/event_channel.h>
            #include <xen/io/ring.h>
            #include <xen/io/blkif.h>
            #include <xen/io/netif.h>
            #include <xen/io/protocols.h>
            #include <xen/io/xs_wire.h>
            #include <xen/io/xenbus.h>

            """ + claims.map { "_Static_assert(\($0), \"no\");\n" }.joined()
        guard let compiler = Self.compiler else { throw ProbeFailure(reason: "neither clang, gcc nor cc is in PATH") }
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("causeway-probe-\(UUID().uuidString).c")
        try source.write(to: file, atomically: false, encoding: .utf8)
        defer { try? FileManager.default.removeItem(at: file) }
        // popen, not Process: that needs a second thread to learn of the end, and other tests may hold them all.
        let command = "'\(compiler)' \(flags.joined(separator: " ")) -ffreestanding -fsyntax-only '\(file.path)' 2>&1"
        guard let pipe = popen(command, "r") else { throw ProbeFailure(reason: "popen: errno \(errno)") }
        var said: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = fread(&chunk, 1, chunk.count, pipe)
            if count == 0 { break }
            said += chunk[..<count]
        }
        let status = pclose(pipe)
        return status == 0 ? "" : "status \(status): \(String(decoding: said, as: UTF8.self))"
    }

    private static let compiler: String? = {
        let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
        for name in ["clang", "gcc", "cc"] {
            for folder in path.split(separator: ":") where FileManager.default.isExecutableFile(atPath: "\(folder)/\(name)") {
                return "\(folder)/\(name)"
            }
        }
        return nil
    }()
}

struct ProbeFailure: Error { var reason: String }
