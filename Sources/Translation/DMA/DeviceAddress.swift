// What a real device is told. A bus address leads to memory of this process; this is that memory as the device finds
// it. Of one run they are the same number, behind the machine's IOMMU; where each page has a frame of its own they are
// not, and a bus address in a device's command would let it write anywhere. So they are two types.

import FrameMaps

/// An address as a real device sends it: of the machine's memory, or of the IOMMU before it. No arithmetic operators.
public struct DeviceAddress: RawRepresentable, Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    /// The address in bytes.
    public let rawValue: UInt64
    /// Wraps an address.
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    /// A frame's first byte; nil for what is no frame of any machine: 0, and numbers of 40 bits or more that are all
    /// ones, with which a kernel or a hypervisor says that there is none or that it does not tell.
    @inlinable public init?(frame: UInt64) {
        guard frame > 0, frame < 1 << 40 - 1 else { return nil }
        rawValue = frame << frameShift
    }
    /// No device finds memory there: what stands in a field that is not used.
    public static let none = DeviceAddress(rawValue: 0)
    /// The address `count` bytes on, where they lie in one run: the caller has seen to that.
    @inlinable @inline(__always)
    public func inRun(behind count: UInt64) -> DeviceAddress { DeviceAddress(rawValue: rawValue &+ count) }
    /// Where in its page.
    @inlinable public var offset: PageOffset { PageOffset(ofAddress: rawValue) }
    /// Hexadecimal.
    public var description: String { "0x" + String(rawValue, radix: 16) }
}

/// A run of memory as a real device finds it.
public struct DeviceSegment: Hashable, Sendable, BitwiseCopyable {
    /// The first byte.
    public var address: DeviceAddress
    /// Bytes, at least 1.
    public var byteCount: UInt32
    /// A run of `byteCount` bytes.
    @inlinable public init(address: DeviceAddress, byteCount: UInt32) {
        self.address = address
        self.byteCount = byteCount
    }
}

/// Where a region is for a device.
public enum BusPlacement: Hashable, Sendable {
    /// All of it in one run, from this address on; never 0.
    case contiguous(DeviceAddress)
    /// Each page at an address of its own, in the region's order: pages' starts, as many as it has pages, none of them
    /// 0. Two pages, of one region or of two, may be the same frame.
    case pages([DeviceAddress])

    /// Pages by their frames; nil if one of them is no frame (`DeviceAddress.init(frame:)`).
    public init?(frames: [UInt64]) {
        var pages: [DeviceAddress] = []
        pages.reserveCapacity(frames.count)
        for frame in frames {
            guard let address = DeviceAddress(frame: frame) else { return nil }
            pages.append(address)
        }
        self = .pages(pages)
    }

    /// The address of each of the region's `count` pages; nil if they are not so many.
    public func pageAddresses(_ count: Int) -> [DeviceAddress]? {
        switch self {
        case .contiguous(let start): (0..<count).map { start.inRun(behind: UInt64($0) << frameShift) }
        case .pages(let pages): pages.count == count ? pages : nil
        }
    }

    /// Whether it is what it promises, for so many pages.
    func isSound(_ count: Int) -> Bool {
        switch self {
        case .contiguous(let start): start != .none && start.rawValue < MemoryBus.firstWindow
        case .pages(let pages):
            pages.count == count && pages.allSatisfy { $0 != .none && $0.offset == .zero && $0.rawValue < MemoryBus.firstWindow }
        }
    }
}
