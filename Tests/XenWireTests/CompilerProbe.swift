// Asks the C compiler what Xen's headers mean on an architecture: a claim is a static assertion, and nothing is linked or run.

import Foundation

/// Claims about Xen's public headers, put to a C compiler.
struct CompilerProbe {
    /// Flags that choose the architecture: `-m32`, `-m64`, or none for this host's own.
    var flags: [String] = []
    /// C expressions that must be true.
    var claims: [String] = []

    mutating func expect(_ expression: String, _ value: Int) { claims.append("(long long)(\(expression)) == \(value)LL") }

    /// What the compiler has against the claims; empty if all hold.
    func objections() throws -> String {
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
            #include <xen/io/protocols.h>
            #include <xen/io/xs_wire.h>
            #include <xen/io/xenbus.h>

            """ + claims.map { "_Static_assert(\($0), \"no\");\n" }.joined()
        let compiler = try require(Self.compiler, "no C compiler in PATH: neither clang, gcc nor cc")
        let process = Process()
        process.executableURL = URL(fileURLWithPath: compiler)
        process.arguments = flags + ["-ffreestanding", "-fsyntax-only", "-x", "c", "-"]
        let input = Pipe(), output = Pipe()
        process.standardInput = input
        process.standardError = output
        process.standardOutput = output
        try process.run()
        input.fileHandleForWriting.write(Data(source.utf8))
        try input.fileHandleForWriting.close()
        let said = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        let text = String(decoding: said, as: UTF8.self)
        return process.terminationStatus == 0 ? "" : "exit \(process.terminationStatus): \(text)"
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

private func require<T>(_ value: T?, _ reason: String) throws -> T {
    guard let value else { throw ProbeFailure(reason: reason) }
    return value
}
