// A device's state as any bytes, with a sum that is right more often than chance would have it: what is taken comes
// back as the same bytes, and what is refused says why.

import DeviceState
import FuzzSupport

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(bytes, count)
    let isWhole = input.byte() & 1 == 0
    let rest = input.take(max(0, count - 1))
    if isWhole { any(rest) } else { made(rest) }
    return 0
}

private func any(_ bytes: [UInt8]) {
    do throws(DeviceStateError) {
        let state = try DeviceState(decoding: bytes) { _, _ in true }
        // Flags that mean nothing today are not kept; all else is.
        let again = try DeviceState(decoding: state.encoded) { _, _ in true }
        require(again == state, "a state that comes back as another")
    } catch { require(!error.description.isEmpty, "an error without words") }
}

/// A state of attributes with these bytes, one byte of it changed.
private func made(_ bytes: [UInt8]) {
    var state = DeviceState(.block, over: .vhostUser)
    var rest = bytes[...]
    while let first = rest.popFirst(), state.attributes.count < 64 {
        let value = Array(rest.prefix(Int(first & 31)))
        rest = rest.dropFirst(value.count)
        var attribute = DeviceState.Attribute(.queue, UInt16(first), index: UInt32(value.count), isRequired: first & 32 == 0, value)
        attribute.group = UInt16(first >> 5)
        state.attributes.append(attribute)
    }
    let encoded = state.encoded
    let known = { (group: UInt16, _: UInt16) in group != 3 }
    do throws(DeviceStateError) {
        let read = try DeviceState(decoding: encoded, understands: known)
        require(read.attributes == state.attributes.filter { $0.group != 3 }, "attributes that are not the same")
    } catch {
        guard case .notUnderstood(group: 3, _) = error else { fatalError("a state of our own is refused: \(error)") }
    }
    guard let place = bytes.last.map({ Int($0) % encoded.count }) else { return }
    var wrong = encoded
    wrong[place] ^= 1 << (bytes.count % 8)
    require((try? DeviceState(decoding: wrong, understands: { _, _ in true })) == nil, "a damaged state is taken")
}
