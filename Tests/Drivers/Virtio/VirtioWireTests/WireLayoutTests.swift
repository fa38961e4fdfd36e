// Layouts and constants against Linux's own headers, by the C compiler: each field alone is set here and must stand, in
// little-endian, exactly where C has it, with zeroes all around; and the bytes read back are the same value.

import CVirtio
import SharedMemory
import Testing
@testable import VirtioWire

/// What the headers say, by structure and field.
private let places: [String: (offset: Int, size: Int)] = {
    var found: [String: (offset: Int, size: Int)] = [:]
    for index in 0... {
        let field = cvirtio_field(index)
        guard let structure = field.structure, let name = field.name else { break }
        found["\(String(cString: structure)).\(String(cString: name))"] = (Int(field.offset), Int(field.size))
    }
    return found
}()

private let constants: [String: UInt64] = {
    var found: [String: UInt64] = [:]
    for index in 0... {
        let one = cvirtio_constant(index)
        guard let name = one.name else { break }
        found[String(cString: name)] = one.value
    }
    return found
}()

/// A field of a structure, set from any number.
private struct Field<S> {
    var name: String
    var set: (inout S, UInt64) -> Void
    init<N: FixedWidthInteger>(_ name: String, _ path: WritableKeyPath<S, N>) {
        self.name = name
        set = { $0[keyPath: path] = N(truncatingIfNeeded: $1) }
    }
    init(_ name: String, set: @escaping (inout S, UInt64) -> Void) {
        self.name = name
        self.set = set
    }
}

private func check<S: WireStructure & Equatable>(_ structure: String, _ blank: S, _ fields: [Field<S>]) throws {
    let known = places.keys.filter { $0.hasPrefix(structure + ".") && $0 != structure + "." }
    #expect(Set(fields.map { "\(structure).\($0.name)" }) == Set(known), "each field of C's, and no other")
    if let whole = places["\(structure)."] { #expect(S.byteCount == whole.size) }
    #expect(blank.array.allSatisfy { $0 == 0 })
    let region = try SharedRegion(anonymous: 4096)
    let pattern: UInt64 = 0xF1E2_D3C4_B5A6_9788
    for field in fields {
        let place = try #require(places["\(structure).\(field.name)"])
        var value = blank
        field.set(&value, pattern)
        var wanted = [UInt8](repeating: 0, count: S.byteCount)
        for index in 0..<place.size { wanted[place.offset + index] = UInt8(truncatingIfNeeded: pattern >> (8 * UInt64(index % 8))) }
        #expect(value.array == wanted, "\(structure).\(field.name)")
        region.fill(0, count: 256, with: 0xAA)
        value.store(region, at: 7)
        #expect(S(region, at: 7) == value)
        #expect(
            region.bytes(at: 0, count: 7) == Array(repeating: 0xAA, count: 7)
                && region.load(7 + S.byteCount, as: UInt8.self) == 0xAA)
    }
}

@Suite struct WireLayoutTests {
    @Test func aDisksConfiguration() throws {
        try check(
            "virtio_blk_config", BlockConfiguration(),
            [
                Field("capacity", \.capacity), Field("size_max", \.sizeMax), Field("seg_max", \.segmentMax),
                Field("geometry.cylinders", \.cylinders), Field("geometry.heads", \.heads),
                Field("geometry.sectors", \.trackSectors),
                Field("blk_size", \.blockSize), Field("physical_block_exp", \.physicalBlockExponent),
                Field("alignment_offset", \.alignmentOffset), Field("min_io_size", \.minimumIOSize),
                Field("opt_io_size", \.optimalIOSize), Field("wce", \.writeback), Field("num_queues", \.queueCount),
                Field("max_discard_sectors", \.maxDiscardSectors), Field("max_discard_seg", \.maxDiscardSegments),
                Field("discard_sector_alignment", \.discardSectorAlignment),
                Field("max_write_zeroes_sectors", \.maxWriteZeroesSectors), Field("max_write_zeroes_seg", \.maxWriteZeroesSegments),
                Field("write_zeroes_may_unmap", \.writeZeroesMayUnmap),
                Field("max_secure_erase_sectors", \.maxSecureEraseSectors), Field("max_secure_erase_seg", \.maxSecureEraseSegments),
                Field("secure_erase_sector_alignment", \.secureEraseSectorAlignment),
            ])
        #expect(places["virtio_blk_config.wce"]?.offset == BlockConfiguration.writebackOffset)
    }

    @Test func aDisksRequest() throws {
        try check(
            "virtio_blk_outhdr", BlockRequestHeader(.read),
            [
                Field("type") { $0.kind = BlockRequestKind(rawValue: UInt32(truncatingIfNeeded: $1)) }, Field("ioprio", \.priority),
                Field("sector", \.sector),
            ])
        try check(
            "virtio_blk_discard_write_zeroes", BlockRange(sector: 0, sectorCount: 0),
            [Field("sector", \.sector), Field("num_sectors", \.sectorCount), Field("flags", \.flags)])
    }

    @Test func anInterface() throws {
        let header: [Field<NetworkHeader>] = [
            Field("flags", \.flags), Field("gso_type", \.segmentation), Field("hdr_len", \.headerBytes),
            Field("gso_size", \.segmentBytes), Field("csum_start", \.checksumStart), Field("csum_offset", \.checksumOffset),
            Field("num_buffers", \.bufferCount),
        ]
        try check("virtio_net_hdr_v1", NetworkHeader(), header)
        try check(
            "virtio_net_hdr_v1_hash", NetworkHashHeader(NetworkHeader()),
            [Field("hash_value", \.hash), Field("hash_report", \.hashKind)])
        var inside = NetworkHashHeader(NetworkHeader())
        inside.header.bufferCount = 0x1234
        #expect(inside.array == inside.header.array + Array(repeating: 0, count: 8))
        try check(
            "virtio_net_config", NetworkConfiguration(),
            [
                Field("mac") { value, number in
                    for place in 0..<6 { value.mac[place] = UInt8(truncatingIfNeeded: number >> UInt64(8 * place)) }
                },
                Field("status", \.status), Field("max_virtqueue_pairs", \.maxQueuePairs), Field("mtu", \.mtu),
                Field("speed", \.speed),
                Field("duplex", \.duplex), Field("rss_max_key_size", \.maxHashKeyBytes),
                Field("rss_max_indirection_table_length", \.maxHashTableEntries), Field("supported_hash_types", \.supportedHashes),
            ])
    }

    /// Descriptors and used elements go through words; the same trial for them.
    @Test func entriesOfRings() throws {
        let region = try SharedRegion(anonymous: 4096)
        let pattern: UInt64 = 0x8877_6655_4433_2211
        func expect(_ structure: String, _ name: String, _ store: () -> Void) throws {
            let place = try #require(places["\(structure).\(name)"])
            region.fill(0, count: 64)
            store()
            var wanted = [UInt8](repeating: 0, count: 64)
            for index in 0..<place.size {
                wanted[16 + place.offset + index] = UInt8(truncatingIfNeeded: pattern >> UInt64(8 * index))
            }
            #expect(region.bytes(at: 0, count: 64) == wanted, "\(structure).\(name)")
        }
        let (word, half) = (UInt32(truncatingIfNeeded: pattern), UInt16(truncatingIfNeeded: pattern))
        let flags = DescriptorFlags(rawValue: half)
        try expect("vring_desc", "addr") { SplitDescriptor(address: pattern, byteCount: 0, flags: []).store(region, at: 16) }
        try expect("vring_desc", "len") { SplitDescriptor(address: 0, byteCount: word, flags: []).store(region, at: 16) }
        try expect("vring_desc", "flags") { SplitDescriptor(address: 0, byteCount: 0, flags: flags).store(region, at: 16) }
        try expect("vring_desc", "next") { SplitDescriptor(address: 0, byteCount: 0, flags: [], next: half).store(region, at: 16) }
        try expect("vring_used_elem", "id") { UsedElement(id: word, written: 0).store(region, at: 16) }
        try expect("vring_used_elem", "len") { UsedElement(id: 0, written: word).store(region, at: 16) }
        try expect("vring_packed_desc", "addr") {
            PackedDescriptor(address: pattern, byteCount: 0, id: 0, flags: []).storeBody(region, at: 16)
        }
        try expect("vring_packed_desc", "len") {
            PackedDescriptor(address: 0, byteCount: word, id: 0, flags: []).storeBody(region, at: 16)
        }
        try expect("vring_packed_desc", "id") {
            PackedDescriptor(address: 0, byteCount: 0, id: half, flags: []).storeBody(region, at: 16)
        }
        try expect("vring_packed_desc", "flags") { PackedDescriptor.storeFlags(flags, region, at: 16) }
        try expect("vring_packed_desc_event", "off_wrap") { PackedEvent(position: half, flags: 0).store(region, at: 16) }
        try expect("vring_packed_desc_event", "flags") { PackedEvent(position: 0, flags: half).store(region, at: 16) }
        #expect(
            SplitDescriptor.byteCount == places["vring_desc."]?.size && UsedElement.byteCount == places["vring_used_elem."]?.size)
        #expect(PackedDescriptor.byteCount == places["vring_packed_desc."]?.size)
        #expect(PackedEvent.byteCount == places["vring_packed_desc_event."]?.size)
        // And back.
        let split = SplitDescriptor(address: 1, byteCount: 2, flags: [.next, .write], next: 3)
        split.store(region, at: 16)
        #expect(SplitDescriptor(region, at: 16) == split)
        let packed = PackedDescriptor(address: 1, byteCount: 2, id: 3, flags: [.available, .write])
        packed.storeBody(region, at: 16)
        PackedDescriptor.storeFlags(packed.flags, region, at: 16)
        #expect(PackedDescriptor(region, at: 16, flags: PackedDescriptor.loadFlags(region, at: 16)) == packed)
        #expect(PackedDescriptor(words: region.load(16), region.load(24)) == packed, "a table's entry is the same")
        PackedEvent.atEntry(0x8005).store(region, at: 16)
        #expect(PackedEvent(region, at: 16) == .atEntry(0x8005))
    }

    @Test func areasOfASplitRing() {
        #expect(places["vring_avail.idx"]?.offset == SplitLayout.index && places["vring_used.idx"]?.offset == SplitLayout.index)
        #expect(places["vring_avail.ring"]?.offset == SplitLayout.ring && places["vring_used.ring"]?.offset == SplitLayout.ring)
        #expect(places["vring_avail.flags"]?.offset == SplitLayout.flags && places["vring_used.flags"]?.offset == SplitLayout.flags)
        for power in 0...15 {
            let size = 1 << power
            let theirs = cvirtio_vring(UInt32(size), 4)
            #expect(theirs.driver == SplitLayout.descriptorBytes(size))
            #expect(theirs.used_event == SplitLayout.usedEvent(size) && theirs.avail_event == SplitLayout.availableEvent(size))
            #expect(theirs.size == theirs.device + SplitLayout.deviceBytes(size, eventIndex: true))
        }
    }

    @Test func aFrontEndGetsAsManyBytesAsItAskedFor() {
        var disk = BlockConfiguration()
        disk.capacity = 0x0102_0304_0506_0708
        disk.maxSecureEraseSectors = 9
        #expect(disk.prefix(from: 0, count: 57) == Array(disk.array[..<57]))
        #expect(disk.prefix(from: 0, count: 60)?.count == 60)
        #expect(disk.prefix(from: 0, count: 256) == disk.array + Array(repeating: 0, count: 256 - 72))
        #expect(disk.prefix(from: 70, count: 4) == [0, 0, 0, 0] && disk.prefix(from: 60, count: 1) == [9])
        #expect(disk.prefix(from: 256, count: 0) == [])
        for (start, count) in [(0, 257), (256, 1), (1, 256), (.max, .max), (0, .max), (.max, 1)] as [(UInt32, UInt32)] {
            #expect(disk.prefix(from: start, count: count) == nil)
        }
    }
}
