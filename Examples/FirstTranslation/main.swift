// Where a domain's pages are, and what a device is given for them: frame maps and DMA, with nothing else of this
// package.

import DMA
import FrameMaps
import SharedMemory

// A domain's table: sixteen pages on frames in a row, and back.
let map = try FrameMap(owner: 3, model: .p2m, pfnLimit: 1 << 20, frameLimit: 1 << 24)
if let pages = FrameRange(Pfn(rawValue: 0x100), count: 16) { try map.map(pages, to: BusFrame(rawValue: 0x2A000)) }
if let found = map.translate(Pfn(rawValue: 0x104), pages: 64), let back = map.pfn(of: found.frame) {
    print("0x104123 is in frame 0x\(String(found.frame.rawValue, radix: 16)), which goes on for \(found.pageCount) pages")
    print("frame 0x2a004 is pfn 0x\(String(back.pfn.rawValue, radix: 16))")
}

// A device behind an IOMMU, with addresses of 32 bits: pages that lie apart are one segment for it.
func transfer() throws {
    let device = try DMADevice(
        name: "example", options: DMAOptions(model: .p2m, iommu: .strict, constraints: DMAConstraints(mask: 0xFFFF_FFFF)))
    let memory = try SharedRegion(anonymous: 16 * 4096)
    guard let page = device.attach(memory) else { fatalError("no page numbers left") }
    let pieces = (0..<5).map { PagePiece(pfn: Pfn(rawValue: page.rawValue + $0), offset: 0, byteCount: 4096) }
    let transfer = try device.map(pieces.span, ToDevice.self)
    print("5 scattered pages behind the IOMMU: \(transfer.segments.count) segment of \(transfer.segments[0].byteCount) bytes")
    try transfer.unmap()
    device.detach(memory)
    try device.close()
}

try transfer()
