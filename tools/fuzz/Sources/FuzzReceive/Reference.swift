// The receive ring's rules once more, slowly: from the words of responses and xen/io/netif.h, sharing nothing with the
// code under test.

import NetworkRig
import Packets
import SharedMemory

/// What must come of some responses.
struct Expected {
    /// Frames for the device.
    var frames: [(bytes: [UInt8], offload: FrameOffload)] = []
    /// Packets that are dropped.
    var spoilt = 0
    /// After the frames comes a lie that ends the connection.
    var isFatal = false

    var fatal: Expected {
        var expected = self
        expected.isFatal = true
        return expected
    }
}

/// What must come of the words of responses that begin in slot `first`.
func frames(_ words: [UInt64], from first: Int, _ data: SharedRegion) -> Expected {
    var expected = Expected()
    var next = 0
    while next < words.count {
        var bytes: [UInt8] = []
        var count = 0
        var isBad = false
        func part(_ word: UInt64, _ slot: Int) {
            let (id, offset, status) = (Int(word & 0xFFFF), Int(word >> 16 & 0xFFFF), Int(Int16(bitPattern: UInt16(word >> 48))))
            count += 1
            if status <= 0 || offset + status > 4096 || id != slot % 256 || count > 17 {
                isBad = true
            } else if !isBad {
                bytes += data.bytes(at: slot % 256 * 4096 + offset, count: status)
            }
        }
        let head = words[next]
        let flags = head >> 32 & 15
        part(head, first + next)
        next += 1
        var segmentation: (type: Int, size: Int)?
        var extras = 0
        var more = flags & 8 != 0
        while more {
            guard next < words.count, extras < 5, (1...5).contains(words[next] & 0xFF) else { return expected.fatal }
            let extra = words[next]
            if extra & 0xFF == 1 {
                if [1, 2].contains(extra >> 32 & 0xFF), extra >> 16 & 0xFFFF != 0 {
                    segmentation = (Int(extra >> 32 & 0xFF), Int(extra >> 16 & 0xFFFF))
                } else {
                    isBad = true
                }
            }
            next += 1
            extras += 1
            more = extra >> 8 & 1 != 0
        }
        more = flags & 4 != 0
        while more {
            guard next < words.count else { return expected.fatal }
            part(words[next], first + next)
            more = words[next] >> 32 & 4 != 0
            next += 1
        }
        let firstCount = Int(Int16(bitPattern: UInt16(head >> 48)))
        guard !isBad, firstCount >= 14, bytes.count <= 65_535,
            let frame = referenceOffload(bytes, isBlank: flags & 2 != 0, isValidated: flags & 1 != 0, segmentation: segmentation)
        else {
            expected.spoilt += 1
            continue
        }
        expected.frames.append(frame)
    }
    return expected
}
