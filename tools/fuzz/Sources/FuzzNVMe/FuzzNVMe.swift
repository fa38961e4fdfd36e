// libFuzzer target for the driver of an NVMe controller, whose peer is the controller.
//
// The input is a byte for what is driven, and a list of operations. Bit 0 of the first byte clear: one pair of queues
// (`Serving.swift`), with requests of any segments, a controller that completes what it was given, and lies where the
// input says so. What must hold: no trap; what reaches the controller is what was asked, in its place and of its bytes
// (`Reference.swift`), and never two commands of one name at once; each request ends once; and as long as the
// controller has not lied, none ends well that has not been done. Set: what a killed driver left (`Leaving.swift`), its
// ledger and its queues changed as the input says: the next driver goes on or resets the controller, and then drives
// it.

import FuzzSupport

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(bytes, count)
    let shape = input.byte()
    if shape & 1 == 0 { serve(shape >> 1, &input) } else { leave(shape >> 1, &input) }
    return 0
}
