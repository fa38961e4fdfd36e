// A device's end of a split ring under a hostile driver.

import FuzzSupport
import SharedMemory
import VirtioModel
import VirtioRig
import VirtioRing
import VirtioWire

private let rig = VirtioRig(ringPages: 2)

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(bytes, count)
    let shape = input.byte()
    let size = [1, 2, 4, 8, 16, 32, 64, 256][Int(shape & 7)]
    var features: VirtioFeatures = .version1
    if shape & 8 != 0 { features.insert(.indirectDescriptors) }
    if shape & 16 != 0 { features.insert(.eventIndex) }
    let start: UInt16 = input.number()
    rig.clear()
    let areas = rig.areas(size, features)
    let queue = rig.queue(areas, features)
    let memory = rig.slow
    memory.put(UInt64(start), 2, at: queue.driver + 2)
    memory.put(UInt64(start), 2, at: queue.device + 2)
    let device = made { try SplitDeviceRing(attaching: areas, features: features, startingAt: start) }
    var pair = VirtioPair(rig, device, SlowSplitDevice(memory, queue, start: Int(start)))
    while !input.isAtEnd {
        let code = input.byte()
        switch code % 13 {
        case 0, 1:
            // A descriptor that may be one.
            let at = queue.descriptors + 16 * UInt64(Int(input.byte()) % size)
            memory.put(VirtioRig.address(&input), 8, at: at)
            memory.put(UInt64(VirtioRig.length(&input)), 4, at: at + 8)
            memory.put(UInt64(code >> 4 & 7), 2, at: at + 12)
            memory.put(UInt64(input.byte()), 2, at: at + 14)
        case 2: rig.describe(&input, isPacked: false)
        case 3, 4:
            // A head shown as an honest driver shows it.
            let index = memory.number(queue.driver + 2, 2)
            memory.put(
                UInt64(input.byte()) % UInt64(size + (code & 0x80 == 0 ? 0 : 2)), 2,
                at: queue.driver + 4 + 2 * (index % UInt64(size)))
            memory.put((index + 1) % 65536, 2, at: queue.driver + 2)
        case 5:
            let index = memory.number(queue.driver + 2, 2)
            memory.put(UInt64(UInt16(truncatingIfNeeded: index) &+ UInt16(input.byte()) &- 4), 2, at: queue.driver + 2)
        case 6: memory.put(input.number(UInt64.self) & 0xFFFF, 2, at: queue.driver + UInt64(code >> 4 & 1) * 2)
        case 7: rig.scribble(&input)
        case 8, 9: pair.take()
        case 10: pair.put(input.byte(), written: input.number())
        case 11: pair.publish(isMeant: true)
        default:
            pair.arm()
            if features.contains(.eventIndex) {
                // Near what is there: where a signal may be wanted.
                memory.put(
                    memory.number(queue.device + 2, 2) &+ UInt64(code >> 4) & 0xFFFF, 2, at: queue.driver + 4 + 2 * UInt64(size))
            }
        }
        pair.check()
    }
    return 0
}
