// Frame numbers in few letters, for tables of them.

import FrameMaps

/// A run of guest frames.
public func pfns(_ start: UInt64, _ count: UInt64 = 1) -> FrameRange<Pfn> { FrameRange(Pfn(rawValue: start), count: count)! }
/// A guest frame.
public func pfn(_ number: UInt64) -> Pfn { Pfn(rawValue: number) }
/// A frame on the bus.
public func bus(_ number: UInt64) -> BusFrame { BusFrame(rawValue: number) }
/// A machine frame.
public func mfn(_ number: UInt64) -> Mfn { Mfn(rawValue: number) }
