// libFuzzer target for a virtio interface: any frames, headers, chains and memory for frames, and a device of any mood.
//
// The input is a byte for the side and the ring (bit 0: what the driver receives; bit 1: a packed ring), one for what
// was agreed on, then a list of operations. What must hold: no trap; frames go by in order, each once, as the
// specification has them from bytes (`Reference.swift`); every chain is answered once, in order.

import FuzzSupport
import VirtioRig
import VirtioRing
import VirtioWire

let rig = VirtioRig(ringPages: 2)

/// Bits of the features, as the second byte chooses them.
func agreed(_ choice: UInt8, isPacked: Bool) -> VirtioFeatures {
    typealias Network = VirtioFeatures.Network
    let bits: [VirtioFeatures] = [
        Network.checksum, Network.hostTSO4, Network.hostTSO6, Network.guestChecksum, Network.guestTSO4, Network.guestTSO6,
        Network.mergeableBuffers, .eventIndex,
    ]
    var features: VirtioFeatures = isPacked ? [.version1, .packedRing] : .version1
    for (index, bit) in bits.enumerated() where choice >> index & 1 != 0 { features.formUnion(bit) }
    return features
}

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(bytes, count)
    let shape = input.byte()
    let isPacked = shape & 2 != 0
    var features = agreed(input.byte(), isPacked: isPacked)
    // Tables lie in memory that frames are written to; only what is read can have them.
    if shape & 1 == 0, shape & 4 != 0 { features.insert(.indirectDescriptors) }
    let size = [1, 2, 4, 16, 64, 256][Int(shape >> 3) % 6]
    rig.clear()
    let areas = rig.areas(size, features)
    if isPacked {
        let device = made { try PackedDeviceRing(attaching: areas, features: features) }
        play(&input, shape, features, areas, Driver(packed: rig.queue(areas, features), in: rig), device)
    } else {
        let device = made { try SplitDeviceRing(attaching: areas, features: features) }
        play(&input, shape, features, areas, Driver(split: rig.queue(areas, features), in: rig), device)
    }
    return 0
}

private func play<Ring: DeviceRing & ~Copyable>(
    _ input: inout ByteReader, _ shape: UInt8, _ features: VirtioFeatures, _ areas: VirtqueueAreas, _ driver: Driver,
    _ device: consuming Ring
) {
    if shape & 1 == 0 {
        var side = Sending(driver, device, features)
        while !input.isAtEnd { side.step(&input) }
        side.end()
    } else {
        var side = Receiving(driver, device, features)
        while !input.isAtEnd { side.step(&input) }
        side.end()
    }
}
