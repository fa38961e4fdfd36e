// Xen's machine-to-phys table: for every frame of the machine the pfn that its owner calls it. Read page by page as it
// is asked for, and kept.

import CXenControl
import FrameMaps

/// The machine's own reverse table, as it is when each page of it is first asked for.
public final class MachineTable {
    private let control: XenControl
    private let frameLimit: UInt64
    private let extents: [UInt64]
    private var pages: [UInt64: [UInt8]] = [:]

    /// Frames in a 2 MiB piece, and in a page, of a table of 8-byte entries.
    private static let perExtent: UInt64 = 1 << 18
    private static let perPage: UInt64 = 512

    init(_ control: XenControl) throws(LiveDomainError) {
        self.control = control
        frameLimit = try control.frameLimit()
        extents = try control.machineTableExtents(Int((frameLimit + Self.perExtent - 1) / Self.perExtent))
    }

    /// The pfn that the frame's owner calls it; nil if the table has a hole there or the frame has no owner.
    public func pfn(of frame: Mfn) throws(LiveDomainError) -> UInt64? {
        guard frame.rawValue < frameLimit else { return nil }
        let page = frame.rawValue / Self.perPage
        if pages[page] == nil {
            let extent = extents[Int(frame.rawValue / Self.perExtent)]
            // A 2 MiB piece is contiguous in the machine.
            let here = Mfn(rawValue: extent + page % (Self.perExtent / Self.perPage))
            let bytes = extent == 0 ? nil : try control.copies([here], of: cxc_xen_domain())[0]
            pages[page] = bytes ?? []
        }
        guard let bytes = pages[page], !bytes.isEmpty else { return nil }
        let place = Int(frame.rawValue % Self.perPage) * 8
        let word = (0..<8).reduce(UInt64(0)) { $0 | UInt64(bytes[place + $1]) << UInt64(8 * $1) }
        // The top bit marks what has no pfn: invalid and shared frames.
        return word >> 63 == 0 ? word : nil
    }
}
