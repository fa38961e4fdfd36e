// A program's output as text.

import LinuxSystem

package enum Capture {
    /// Runs `arguments` and returns what it wrote to stdout; its stderr is ours.
    package static func run(_ arguments: [String]) throws(Failure) -> String {
        let reader: Descriptor
        var writer: Descriptor?
        do throws(Errno) { (reader, writer) = try Descriptor.pipe() } catch { throw Failure("pipe: \(error)") }
        let child = try ChildProcess.start(arguments, ownGroup: true, output: writer)
        // The child's copy must be the last one, or the end of its output would never be seen.
        writer = nil
        let text = (try? reader.readToEnd()) ?? []
        let status = child.wait()
        guard status == .exited(0) else { throw Failure("\(arguments.first ?? ""): \(status)") }
        return String(decoding: text, as: UTF8.self)
    }
}
