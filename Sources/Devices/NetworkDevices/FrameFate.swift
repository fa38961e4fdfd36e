// What becomes of one frame, by what struck it.

import DeviceFaults
import Packets

/// All that strikes one frame.
struct FrameFate {
    private(set) var isLost = false
    private(set) var isDoubled = false
    private(set) var delayMicroseconds: UInt64 = 0
    /// Nothing moves for so long from now on.
    private(set) var stallMicroseconds: UInt64?
    private(set) var corrupts: UInt64?
    private(set) var shortens: UInt64?
    /// Whether anything does.
    let isStruck: Bool

    init(_ strikes: [FaultStrike]) {
        isStruck = !strikes.isEmpty
        for strike in strikes {
            let microseconds = strike.milliseconds &* 1000
            switch strike.kind {
            case .drop: isLost = true
            case .duplicate: isDoubled = true
            case .delay: delayMicroseconds = max(delayMicroseconds, microseconds)
            // Late by any part of it: what comes meanwhile overtakes.
            case .reorder: delayMicroseconds = max(delayMicroseconds, 1 + strike.random % max(1, microseconds))
            case .stall: stallMicroseconds = microseconds
            case .corrupt: corrupts = strike.random
            case .short: shortens = strike.random
            default: break
            }
        }
    }
}

/// A frame's bytes, and what is left undone in it.
struct KeptFrame {
    var bytes: [UInt8]
    let offload: FrameOffload

    private static let addresses = 12

    /// Changes what is to be changed: one byte behind the Ethernet addresses, so that it arrives; or its end.
    mutating func spoil(_ fate: FrameFate) {
        if let random = fate.corrupts, bytes.count > Self.addresses {
            let place = Self.addresses + Int((random >> 8) % UInt64(bytes.count - Self.addresses))
            bytes[place] ^= UInt8(truncatingIfNeeded: random) | 1
        }
        if let random = fate.shortens, bytes.count > 1 {
            bytes.removeLast(1 + Int(random % UInt64(bytes.count - 1)))
        }
    }
}
