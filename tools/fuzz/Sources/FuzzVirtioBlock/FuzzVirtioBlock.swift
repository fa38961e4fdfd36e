// libFuzzer target for a virtio disk: any chains, headers, ranges and memory, and a disk of any mood.
//
// The input is a byte for the ring (bit 0: packed; bits 1 to 3: its size), one for what was agreed on and what the disk
// is, then a list of operations. What must hold: no trap; whatever reaches the disk is within it, whole, and what the
// chain asked (`Reference.swift`); every chain is answered once; nothing is written to a disk that is only read.

import BlockDevices
import FuzzSupport
import VirtioRig
import VirtioRing
import VirtioWire

let rig = VirtioRig(ringPages: 2)

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(bytes, count)
    let (shape, choice) = (input.byte(), input.byte())
    var features: VirtioFeatures = shape & 1 != 0 ? [.version1, .packedRing] : .version1
    typealias Block = VirtioFeatures.Block
    for (index, bit) in [Block.flush, Block.discard, Block.writeZeroes, Block.secureErase, .eventIndex, .indirectDescriptors]
        .enumerated() where choice >> index & 1 != 0
    {
        features.formUnion(bit)
    }
    let geometry = BlockGeometry(
        byteCount: 64 * 512, logicalSectorSize: 512, isReadOnly: choice & 0x40 != 0,
        discard: DiscardLimits(granularity: 512, secure: true), zeroes: .canUnmap, canFlush: choice & 0x80 == 0)
    let size = [1, 2, 4, 16, 64, 256, 16, 4][Int(shape >> 1) % 8]
    rig.clear()
    let areas = rig.areas(size, features)
    if features.contains(.packedRing) {
        let ring = made { try PackedDeviceRing(attaching: areas, features: features) }
        play(&input, RingBook(Driver(packed: rig.queue(areas, features), in: rig)), ring, features, geometry)
    } else {
        let ring = made { try SplitDeviceRing(attaching: areas, features: features) }
        play(&input, RingBook(Driver(split: rig.queue(areas, features), in: rig)), ring, features, geometry)
    }
    return 0
}

private func play<Ring: DeviceRing & ~Copyable>(
    _ input: inout ByteReader, _ book: RingBook, _ ring: consuming Ring, _ features: VirtioFeatures, _ geometry: BlockGeometry
) {
    var side = Serving(book, ring, features, geometry)
    while !input.isAtEnd { side.step(&input) }
    side.end()
}
