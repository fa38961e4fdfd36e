// A device's DMA against its limits and against the bytes of its pages: what was mapped is what the device finds, in
// segments as it needs them; what cannot be is refused, and leaves nothing behind.

import FrameMaps
import FuzzSupport
import SharedMemory

@testable import DMA

/// Every kind of bus, with and without limits; made once, for their tables are large.
nonisolated(unsafe) private let devices: [DMADevice] = {
    let limits = [
        DMAConstraints(),
        DMAConstraints(mask: 0xFFFF_FFFF, boundaryMask: 0x1FFF, maximumSegmentSize: 1000, minimumAlignment: 64),
        DMAConstraints(maximumSegmentSize: 20000, minimumAlignment: 16384),
        DMAConstraints(maximumSegments: 2, minimumAlignment: 8192, isUntrusted: true),
    ]
    var all: [DMADevice] = []
    for (model, iommu) in [(.vp, nil), (.p2m, nil), (.identity, .strict), (.p2m, .deferred)] as [(MemoryModel, IommuMode?)] {
        for limits in limits {
            let pool = limits == DMAConstraints() ? 0 : 1 << 18
            let options = DMAOptions(model: model, iommu: iommu, constraints: limits, bouncePool: pool)
            all.append(made { try DMADevice(name: "f", options: options) })
        }
    }
    return all
}()
/// Six pages that devices may write, and one that they may not.
nonisolated(unsafe) private let memory = made { try SharedRegion(anonymous: 6 << 12) }
nonisolated(unsafe) private let sealed = made { try SharedRegion(anonymous: 1 << 12) }
nonisolated(unsafe) private let readOnly = unsafe SharedRegion(
    adopting: sealed.unsafeBase, byteCount: 4096, writable: false
) { _, _ in }

private struct Mapped {
    let handle: DMAHandle
    let direction: DMADirection
    let byteCount: Int
}

func anyDevice(_ input: inout ByteReader) {
    let head = input.byte()
    if head & 0xF0 == 0xF0 { return anyLimits(&input) }
    let device = devices[Int(head & 15)]
    guard let base = device.attach(memory), let sealedPage = device.attach(readOnly) else { fatalError("no numbers") }
    var live: [Mapped] = []
    var coherent: [CoherentMemory] = []
    for _ in 0..<60 where !input.isAtEnd { call(device, base, sealedPage, &live, &coherent, &input) }
    for mapped in live { made { try device.unmap(mapped.handle, mapped.direction) } }
    for memory in coherent { made { try device.freeCoherent(memory) } }
    device.detach(memory)
    device.detach(readOnly)
    made { try device.close() }
    require(device.pool?.slotsInUse ?? 0 == 0 && device.liveMappings == 0, "\(device)")
    require(device.iommu?.tableByteCount ?? 0 == 0, "links of mappings that have ended")
}

/// Limits that may be none: an error, or a device.
private func anyLimits(_ input: inout ByteReader) {
    var limits = DMAConstraints(mask: input.number(), boundaryMask: input.number())
    limits.maximumSegmentSize = input.number()
    limits.maximumSegments = input.count()
    limits.minimumAlignment = input.byte() & 1 == 0 ? 1 << UInt32(input.byte() & 31) : input.number()
    let pool = input.count()
    do throws(DMAError) {
        let options = DMAOptions(model: .p2m, iommu: input.byte() & 1 == 0 ? nil : .strict, constraints: limits, bouncePool: pool)
        let device = try DMADevice(name: "f", options: options)
        require(limits.mask & (limits.mask &+ 1) == 0 && limits.maximumSegments > 0, "\(limits)")
        guard let base = device.attach(memory) else { fatalError("no numbers") }
        var segments: [BusSegment] = []
        if let handle = try? device.map([PagePiece(pfn: base, offset: 0, byteCount: 4096)].span, .toDevice, into: &segments) {
            check(segments, limits, 4096)
            made { try device.unmap(handle, .toDevice) }
        }
    } catch { require(!error.description.isEmpty, "an error without words") }
}

private func check(_ segments: [BusSegment], _ limits: DMAConstraints, _ total: Int) {
    require(segments.reduce(0) { $0 + Int($1.byteCount) } == total, "\(segments) for \(total) bytes")
    require(segments.count <= limits.maximumSegments, "\(segments.count) segments")
    for segment in segments {
        let last = segment.address.rawValue &+ UInt64(segment.byteCount) &- 1
        require(segment.byteCount > 0 && last >= segment.address.rawValue && last <= limits.mask, "\(segment)")
        require(segment.byteCount <= limits.maximumSegmentSize, "\(segment)")
        require(segment.address.rawValue | limits.boundaryMask == last | limits.boundaryMask, "\(segment)")
        require(segment.address.rawValue & UInt64(limits.minimumAlignment - 1) == 0, "\(segment)")
    }
}

private func call(
    _ device: DMADevice, _ base: Pfn, _ sealedPage: Pfn, _ live: inout [Mapped], _ coherent: inout [CoherentMemory],
    _ input: inout ByteReader
) {
    let code = input.byte()
    switch code & 7 {
    case 0...2: map(device, base, sealedPage, code, &live, &input)
    case 3:
        if live.isEmpty { return }
        let mapped = live.remove(at: Int(code >> 3) % live.count)
        made { try device.unmap(mapped.handle, mapped.direction, written: input.count()) }
    case 4:
        let mapped = live.last
        let (offset, count) = (input.count(), input.count())
        let handle =
            code & 8 == 0
            ? mapped?.handle ?? DMAHandle(index: 0, generation: 0, device: 0)
            : DMAHandle(index: input.number(), generation: input.number(), device: input.number())
        do throws(DMAError) {
            try device.syncForDevice(handle, offset: offset, byteCount: count)
            require(offset >= 0 && count >= 0, "synchronized \(count) at \(offset)")
        } catch { require(!error.description.isEmpty, "an error without words") }
    case 5: reserve(device, base, &input)
    case 6:
        let count = input.count()
        do throws(DMAError) {
            if count > 1 << 20 { return }
            let made = try device.allocateCoherent(count)
            require(count > 0 && Int(made.segment.byteCount) >= count, "coherent memory of \(count) bytes: \(made.segment)")
            check([made.segment], device.options.constraints, made.region.byteCount)
            coherent.append(made)
        } catch { require(!error.description.isEmpty, "an error without words") }
    default: look(device, base, &input)
    }
}

private func map(
    _ device: DMADevice, _ base: Pfn, _ sealedPage: Pfn, _ code: UInt8, _ live: inout [Mapped], _ input: inout ByteReader
) {
    let direction: DMADirection = [.toDevice, .fromDevice, .bidirectional][Int(code >> 3) % 3]
    var pieces: [PagePiece] = []
    var isGood = true
    for _ in 0..<Int(code >> 6) + 1 {
        let pick = input.byte()
        var piece = PagePiece(pfn: base, offset: 0, byteCount: 4096)
        switch pick & 15 {
        case 0...9: piece.pfn = base.advanced(by: UInt64(pick & 15) % 6) ?? base
        case 10: piece.pfn = sealedPage
        default: piece.pfn = Pfn(rawValue: input.page(base.rawValue + 6))
        }
        if pick & 0x10 != 0 { piece.offset = UInt32(input.number(UInt16.self)) % 5000 }
        if pick & 0x20 != 0 { piece.byteCount = UInt32(input.number(UInt16.self)) % 5000 }
        if pick & 0xC0 == 0xC0 { (piece.offset, piece.byteCount) = (input.number(), input.number()) }
        let isThere = piece.pfn.rawValue >= base.rawValue && piece.pfn.rawValue < base.rawValue + 6 || piece.pfn == sealedPage
        isGood = isGood && isThere && piece.byteCount > 0 && UInt64(piece.offset) + UInt64(piece.byteCount) <= 4096
        isGood = isGood && (direction == .toDevice || piece.pfn != sealedPage)
        pieces.append(piece)
    }
    var segments: [BusSegment] = []
    do throws(DMAError) {
        let handle = try device.map(pieces.span, direction, into: &segments)
        let total = pieces.reduce(0) { $0 + Int($1.byteCount) }
        require(isGood, "mapped \(pieces)")
        check(segments, device.options.constraints, total)
        for segment in segments { require(device.bus.isReachable(segment, direction), "\(segment) is out of reach") }
        live.append(Mapped(handle: handle, direction: direction, byteCount: total))
    } catch {
        require(segments.isEmpty, "segments of what was refused")
        if isGood {
            switch error {
            case .needsBounce, .poolFull: break;
            default: fatalError("\(error)")
            }
        }
    }
}

private func reserve(_ device: DMADevice, _ base: Pfn, _ input: inout ByteReader) {
    let count = input.count()
    do throws(DMAError) {
        guard var space = try device.reserve(byteCount: count, .toDevice) else { return }
        require(count > 0, "space of \(count) bytes")
        for _ in 0..<3 {
            let piece = PagePiece(pfn: base, offset: UInt32(input.byte() & 1), byteCount: UInt32(input.number(UInt16.self)) % 5000)
            do throws(DMAError) { try space.link(piece) } catch { require(!error.description.isEmpty, "\(error)") }
        }
        for segment in space.commit() { require(device.bus.isReachable(segment, .toDevice), "\(segment) is out of reach") }
        try space.destroy()
    } catch { require(!error.description.isEmpty, "an error without words") }
}

/// The driver's and the device's own look, with places that are none.
private func look(_ device: DMADevice, _ base: Pfn, _ input: inout ByteReader) {
    let own = made { try SharedRegion(anonymous: 4096) }
    let piece = PagePiece(
        pfn: Pfn(rawValue: input.page(base.rawValue + 6)), offset: UInt32(input.number(UInt16.self)),
        byteCount: UInt32(input.number(UInt16.self)))
    let (place, count) = (input.count(), input.count())
    _ = device.read(piece, into: own, at: place)
    _ = device.readHead(piece, count: count, into: own, at: place)
    _ = device.bus.resolveRun(BusSegment(address: BusAddress(rawValue: input.number()), byteCount: piece.byteCount), .toDevice)
    let segment = BusSegment(address: BusAddress(rawValue: input.number()), byteCount: piece.byteCount)
    require(!device.bus.read(segment, into: own, at: place) || place >= 0, "read to \(place)")
    _ = device.bus.readHead(segment, count: count, into: own, at: place)
    var sum = WordSum()
    if place <= count { _ = device.bus.add(segment, place..<count, to: &sum) }
    if place <= count { _ = device.add(piece, place..<count, to: &sum) }
    _ = device.bus.store(0x1234, high: (segment, place), low: (segment, count))
    _ = device.store(0x1234, high: (piece, place), low: (piece, count))
}
