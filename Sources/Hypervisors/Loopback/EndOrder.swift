// What a client wants done when a mapping or a run of its ends.

import XenTypes

struct EndOrder: Hashable {
    /// The byte of the page that becomes 0.
    var byte: UInt16?
    /// The port whose peer is rung.
    var port: EventPort?

    private static let noByte: UInt16 = 0xFFFF

    func encode(_ writer: inout MessageWriter) {
        writer.put(byte ?? Self.noByte)
        // Port 0 is no port.
        writer.put(port?.rawValue ?? 0)
    }

    static func decode(_ reader: inout MessageReader) throws(MalformedMessage) -> EndOrder {
        let byte = try reader.take(UInt16.self)
        let port = try reader.take(UInt32.self)
        guard byte < 4096 || byte == noByte else { throw MalformedMessage() }
        return EndOrder(byte: byte == noByte ? nil : byte, port: port == 0 ? nil : EventPort(port))
    }
}
