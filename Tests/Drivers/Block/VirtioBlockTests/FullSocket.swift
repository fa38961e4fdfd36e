// A socket that a front end does not read, so that a device finds no room in it.

import LinuxSystem

/// What fills a socket until no more goes in.
struct FullSocket {
    private let byteCount: Int

    init(_ writer: Descriptor) {
        var filled = 0
        while let count = try? StreamSocket.send(writer.rawValue, Array(repeating: 7, count: 1000)[...], wait: false) {
            filled += count
        }
        byteCount = filled
    }

    /// Reads all of that, and nothing behind it.
    func drain(_ reader: Descriptor) throws {
        var left = byteCount
        while left > 0 { left -= try StreamSocket.receive(reader.rawValue, capacity: left, wait: true).count }
    }
}
