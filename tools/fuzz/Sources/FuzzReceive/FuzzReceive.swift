// Frames to a frontend, both ends: netback's, whose frontend posts any pages and has any settings; and netfront's,
// whose backend answers with any slots. The first byte says which.

import FuzzSupport

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(start, count)
    if input.byte() & 1 == 0 { fuzzFrontend(&input) } else { fuzzBackend(&input) }
    return 0
}
