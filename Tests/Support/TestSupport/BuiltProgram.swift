// Programs of this package, run as a user would run them.

import Foundation

/// A program that was built together with the tests.
public struct BuiltProgram {
    /// How one run ended.
    public struct Run {
        /// What it printed to its standard output.
        public let output: String
        /// Its exit status.
        public let status: Int32
    }
    /// Where it is.
    public let url: URL

    /// The executable target `name`, which the test target must depend on.
    public init(_ name: String) throws {
        // The test bundle lies beside what was built.
        let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        url = URL(fileURLWithPath: own).deletingLastPathComponent().appendingPathComponent(name)
    }

    /// Runs it to its end.
    public func run(_ arguments: [String] = []) throws -> Run {
        let process = Process()
        let output = Pipe()
        process.executableURL = url
        process.arguments = arguments
        process.standardOutput = output
        try process.run()
        let text = String(decoding: try output.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        process.waitUntilExit()
        return Run(output: text, status: process.terminationStatus)
    }
}
