// The translation library's public calls with any numbers in them: addresses beyond every mask, counts of zero, of less
// and of more than there can be. An input is a list of calls, of an IO address space, a device or a frame map, and each
// has a model that keeps no tables. What is refused must be refused with an error, and must have changed nothing.

import FuzzSupport

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(bytes, count)
    switch input.byte() % 3 {
    case 0: anySpace(&input)
    case 1: anyDevice(&input)
    default: anyMap(&input)
    }
    return 0
}

extension ByteReader {
    /// A count as a caller could pass it: most often a small one, now and then none that makes sense.
    mutating func count() -> Int {
        let code = byte()
        switch code & 15 {
        case 0...8: return Int(code >> 4) + 1
        case 9: return [0, -1, .min, .max, .max - 1, 1 << 62, -(1 << 40), 1 << 53][Int(code >> 4 & 7)]
        case 10: return [511, 512, 513, 1024, 1 << 18, 1 << 20, 1 << 24, 1 << 28][Int(code >> 4 & 7)]
        case 11: return number()
        default: return Int(number(UInt16.self) % 1500)
        }
    }

    /// A page's number.
    mutating func page(_ limit: UInt64) -> UInt64 {
        let code = byte()
        switch code & 15 {
        case 0...3: return UInt64(code >> 4)
        case 4...6: return limit &- UInt64(code >> 4)
        case 7: return limit &+ UInt64(code >> 4)
        case 8: return [1 << 28, 1 << 40, 1 << 51, 1 << 52 - 1, 1 << 52, 1 << 63, .max, .max - 511][Int(code >> 4 & 7)]
        case 9: return number()
        case 10: return UInt64(code >> 4) << 9
        default: return UInt64(number(UInt32.self)) % max(limit, 1)
        }
    }
}
