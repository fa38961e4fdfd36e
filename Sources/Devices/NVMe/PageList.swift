// Where a command's data is, as the controller wants it (NVMe base specification, "Physical Region Page"): the first
// page, which may begin anywhere, and the others whole: one more beside it, or a list of them in a page of the
// command's own. One page of list has room for 512: with the first that is 2 MiB, wherever in its page it begins.

import DMA
import SharedMemory

/// The limits of a transfer.
enum PageList {
    static let page: UInt64 = 4096
    /// The most bytes of a transfer; what a controller takes may be less.
    static let mostBytes: UInt64 = 512 * page
    /// Where a transfer must be cut.
    static let constraints = DMAConstraints(virtualBoundaryMask: page - 1, minimumAlignment: 4)
}

extension QueueRings {
    /// Writes where `byteCount` bytes from `place` on are, which are cut as `PageList.constraints` has it, into a
    /// command and into its list.
    @inline(__always)
    func describe(
        _ segments: Span<DeviceSegment>, from place: TransferPlace, byteCount: UInt64, of slot: Int, in command: inout NVMeCommand
    ) {
        let list = listOffset(slot)
        var (index, offset) = (place.segment, UInt64(place.offset))
        var left = byteCount
        var (entries, second) = (0, DeviceAddress.none)
        while left > 0 {
            let segment = segments[index]
            var address = segment.address.rawValue &+ offset
            var here = min(UInt64(segment.byteCount) - offset, left)
            left -= here
            while here > 0 {
                let toPage = PageList.page - address & (PageList.page - 1)
                let isNewPage = entries == 0 || address & (PageList.page - 1) == 0
                if entries == 0 {
                    command.prp1 = DeviceAddress(rawValue: address)
                } else if isNewPage {
                    if entries == 1 { second = DeviceAddress(rawValue: address) }
                    region.store(address, at: list + (entries - 1) * 8)
                }
                if isNewPage { entries += 1 }
                let taken = min(toPage, here)
                address &+= taken
                here -= taken
            }
            index += 1
            offset = 0
        }
        switch entries {
        case ...1: command.prp2 = .none
        case 2: command.prp2 = second
        default: command.prp2 = listAddress(slot)
        }
    }
}
