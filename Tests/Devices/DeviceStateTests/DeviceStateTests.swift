// A state comes back as it was, or is refused; nothing in between.

import Testing

@testable import DeviceState

@Suite("Device state") struct DeviceStateTests {
    private let state = DeviceState(
        .block, over: .vhostUser,
        [
            .init(.agreement, 2, [1, 2, 3, 4, 5, 6, 7, 8]), .init(.memory, 37, index: 3, Array(repeating: 0xA5, count: 41)),
            .init(.counters, 9, isRequired: false, []), .init(.queue, 8, index: 255, [0]),
        ])

    @Test("the sum is Castagnoli's")
    func sum() {
        #expect(CRC32C.sum("123456789".utf8) == 0xE306_9283)
        #expect(CRC32C.sum([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
    }

    @Test("what was written is read, in its order; what is not understood and need not be is left out")
    func roundTrip() throws {
        let bytes = state.encoded
        #expect(bytes.count % 8 == 0 && Array(bytes[..<8]) == Array("CWDV".utf8) + [1, 0, 1, 0])
        #expect(try DeviceState(decoding: bytes) { _, _ in true } == state)
        var less = state
        less.attributes.remove(at: 2)
        #expect(try DeviceState(decoding: bytes) { group, _ in group != 6 } == less)
        #expect(throws: DeviceStateError.notUnderstood(group: 5, number: 37)) {
            _ = try DeviceState(decoding: bytes) { group, _ in group != 5 }
        }
        let empty = DeviceState(.network, over: .xen)
        #expect(try DeviceState(decoding: empty.encoded) { _, _ in false } == empty)
    }

    @Test("each byte flipped, each length cut, something behind the end: refused")
    func damage() {
        let bytes = state.encoded
        for place in bytes.indices {
            for bit in 0..<8 {
                var wrong = bytes
                wrong[place] ^= 1 << bit
                #expect(throws: DeviceStateError.self, "byte \(place), bit \(bit)") {
                    _ = try DeviceState(decoding: wrong) { _, _ in true }
                }
            }
            #expect(throws: DeviceStateError.self, "\(place) bytes") {
                _ = try DeviceState(decoding: Array(bytes[..<place])) { _, _ in true }
            }
        }
        #expect(throws: DeviceStateError.damaged) { _ = try DeviceState(decoding: bytes + [0]) { _, _ in true } }
        #expect(throws: DeviceStateError.notAState) { _ = try DeviceState(decoding: Array("CWDW".utf8)) { _, _ in true } }
    }

    @Test("what is said of itself is known: a version, a kind, a length that is not there")
    func lies() {
        var later = state.encoded
        later[4] = 2
        #expect(throws: DeviceStateError.unknownVersion(2)) { _ = try DeviceState(decoding: later) { _, _ in true } }
        var endless = Array(state.encoded[..<16])
        for place in 12..<16 { endless[place] = 0xFF }
        #expect(throws: DeviceStateError.truncated(byteCount: 16)) { _ = try DeviceState(decoding: endless) { _, _ in true } }
        // A record of 4 GiB that is not there.
        var long = state.encoded
        for place in 28..<32 { long[place] = 0xFF }
        #expect(throws: DeviceStateError.truncated(byteCount: long.count)) { _ = try DeviceState(decoding: long) { _, _ in true } }
    }
}
