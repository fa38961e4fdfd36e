// A device's end of a packed ring under a hostile driver.

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
    let size = [1, 2, 3, 5, 8, 17, 100, 256][Int(shape & 7)]
    var features: VirtioFeatures = [.version1, .packedRing]
    if shape & 8 != 0 { features.insert(.indirectDescriptors) }
    if shape & 16 != 0 { features.insert(.eventIndex) }
    rig.clear()
    let areas = rig.areas(size, features)
    let queue = rig.queue(areas, features)
    let memory = rig.slow
    let device = made { try PackedDeviceRing(attaching: areas, features: features) }
    var pair = VirtioPair(rig, device, SlowPackedDevice(memory, queue))
    // Where an honest driver would write next.
    var position = 0
    while !input.isAtEnd {
        let code = input.byte()
        switch code % 11 {
        case 0...2:
            // An entry that may be one, at the next place; available in its round, unless it is not to be.
            let at = queue.descriptors + 16 * UInt64(position % size)
            let wrap: UInt64 = position / size % 2 == 0 ? 1 : 0
            memory.put(VirtioRig.address(&input), 8, at: at)
            memory.put(UInt64(VirtioRig.length(&input)), 4, at: at + 8)
            memory.put(UInt64(input.byte()), 2, at: at + 12)
            let mark = code >> 4 == 15 ? 0 : wrap << 7 | (1 - wrap) << 15
            memory.put(UInt64(code >> 4 & 7) | mark, 2, at: at + 14)
            position += 1
        case 3: rig.describe(&input, isPacked: true)
        case 4: position = max(0, position + Int(Int8(bitPattern: input.byte())))
        case 5: rig.scribble(&input)
        case 6, 7: pair.take()
        case 8: pair.put(input.byte(), written: input.number())
        case 9: pair.publish(isMeant: memory.number(queue.driver, 2) & 0x7FFF < UInt64(size))
        default:
            pair.arm()
            memory.put(UInt64(input.number(UInt16.self)) & 0x80FF, 2, at: queue.driver)
            memory.put(UInt64(code >> 4 & 3), 2, at: queue.driver + 2)
        }
        pair.check()
    }
    return 0
}
