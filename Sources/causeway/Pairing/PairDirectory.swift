// A pair's own run directory: private and gone with the pair, unless one was given.

import FoundationEssentials
import Glibc

struct PairDirectory {
    let run: RunDirectory
    private let isPrivate: Bool

    init(given: RunDirectory?) throws(Failure) {
        if let given {
            run = given
            isPrivate = false
            return
        }
        let base = ProcessInfo.processInfo.environment["TMPDIR"].flatMap { $0.isEmpty ? nil : $0 } ?? "/tmp"
        var template = Array("\(base)/causeway.XXXXXX".utf8CString)
        let made = unsafe template.withUnsafeMutableBufferPointer { buffer in
            guard let start = buffer.baseAddress else { return false }
            return unsafe mkdtemp(start) != nil
        }
        guard made else { throw Failure("pair: \(base): cannot make a directory: \(systemMessage(errno))") }
        run = try RunDirectory(String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self))
        isPrivate = true
    }

    /// The NBD socket of a disk.
    func socket(of vdev: String) -> String { "\(run)/\(vdev).sock" }

    /// Where the backend leaves what its successor needs.
    var journal: String { "\(run)/journal" }

    func remove() {
        guard isPrivate else { return }
        try? FileManager.default.removeItem(atPath: run.path)
    }
}
