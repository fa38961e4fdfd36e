// Memory whose pages stay where they are, and where that is: what a device needs that reaches it by the machine's own
// addresses. `mlock` keeps pages in memory, not in their place: compaction moves them.

import CLinux
import Glibc
import LinuxSystem

/// Pages that stay where they are as long as this is kept.
///
/// SAFETY: `base` and `byteCount` are those of `region`, which this keeps.
@safe
public final class PinnedPages: Sendable {
    private let region: SharedRegion
    /// What the kernel has the pages by.
    public let holders: [Descriptor]

    /// Pins all of a region; throws what the kernel says: ENOMEM where more would be locked than may be.
    ///
    /// Pages that can be written are pinned as buffers of io_uring's (a long-term pin), and locked, too, so that none
    /// is swapped out: the kernel could take what it wrote there for newer than what a device has put into the page
    /// since. Those that can only be read cannot be pinned so; they are put into pipes that nobody reads, which hold
    /// them by a reference each: a page with one more than the kernel knows of is not moved.
    public init(_ region: SharedRegion) throws(Errno) {
        self.region = region
        holders = region.isWritable ? try Self.pin(region) : try Self.hold(region)
    }

    private static func pin(_ region: SharedRegion) throws(Errno) -> [Descriptor] {
        // SAFETY: the region's own bytes, which are mapped as long as it lives.
        try retryingInterrupts { unsafe mlock(region.base, region.byteCount) }
        let ring = unsafe causeway_pin_writable(region.base, region.byteCount)
        guard ring >= 0 else {
            unsafe _ = munlock(region.base, region.byteCount)
            throw Errno(-ring)
        }
        return [Descriptor(owning: ring)]
    }

    private static func hold(_ region: SharedRegion) throws(Errno) -> [Descriptor] {
        var (ends, done) = ([Descriptor](), 0)
        while done < region.byteCount {
            var pipe: (Int32, Int32) = (-1, -1)
            // SAFETY: the call fills in the two numbers; the bytes are the region's own.
            let count = unsafe withUnsafeMutablePointer(to: &pipe) { pair in
                unsafe pair.withMemoryRebound(to: Int32.self, capacity: 2) { numbers in
                    unsafe causeway_hold_readable(region.base + done, region.byteCount - done, numbers)
                }
            }
            guard count > 0 else { throw Errno(Int32(-count)) }
            ends += [Descriptor(owning: pipe.0), Descriptor(owning: pipe.1)]
            done += count
        }
        return ends
    }

    deinit {
        // SAFETY: as above. The pin itself ends with its descriptor.
        if region.isWritable { unsafe _ = munlock(region.base, region.byteCount) }
    }
}

extension SharedRegion {
    /// The machine's frame of each page, as `/proc/self/pagemap` has it: 0 for a page that is not there, and for all of
    /// them where the kernel does not tell this process (it wants `CAP_SYS_ADMIN`). To be asked behind the pin, which
    /// may move pages.
    public func frames() throws(Errno) -> [UInt64] {
        let table = try Descriptor.open("/proc/self/pagemap", O_RDONLY)
        // SAFETY: a number, by which nothing is reached.
        let first = UInt64(UInt(bitPattern: unsafe base)) / UInt64(Self.pageSize)
        let bytes = try table.read(pageCount * 8, at: off_t(first * 8))
        guard bytes.count == pageCount * 8 else { throw .ioError }
        return (0..<pageCount).map { page in
            let entry = (0..<8).reduce(UInt64(0)) { $0 | UInt64(bytes[page * 8 + $1]) << UInt64($1 * 8) }
            // Bit 63: there is such a page; bits 54 to 0 its frame.
            return entry >> 63 == 1 ? entry & (1 << 55 - 1) : 0
        }
    }
}
