// What a driver and a device agree on: 64 bits, of which 24 to 40 mean the same for every kind of device and the others
// what the kind says (VIRTIO_F_*, VIRTIO_RING_F_* of linux/virtio_config.h and virtio_ring.h).

/// Feature bits, offered by the device, accepted by the driver.
public struct VirtioFeatures: OptionSet, Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    /// The word as it is negotiated.
    public var rawValue: UInt64
    /// Any word.
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    /// The feature of one bit, 0 to 63.
    @inlinable public init(bit: Int) { rawValue = 1 << UInt64(bit) }

    /// The device may signal when the ring is empty though told not to; of old drivers, and never offered (bit 24).
    @inlinable public static var notifyOnEmpty: Self { Self(bit: 24) }
    /// Headers may be cut anywhere; implied by `version1` (bit 27).
    @inlinable public static var anyLayout: Self { Self(bit: 27) }
    /// A descriptor may name a table of descriptors (bit 28).
    @inlinable public static var indirectDescriptors: Self { Self(bit: 28) }
    /// Each side says at which entry it wants to be woken (bit 29).
    @inlinable public static var eventIndex: Self { Self(bit: 29) }
    /// The device keeps to virtio 1.0 and later (bit 32).
    @inlinable public static var version1: Self { Self(bit: 32) }
    /// Addresses go through an IOMMU, or are grants (bit 33).
    @inlinable public static var accessPlatform: Self { Self(bit: 33) }
    /// Packed rings (bit 34).
    @inlinable public static var packedRing: Self { Self(bit: 34) }
    /// Buffers are used in the order in which they were made available (bit 35).
    @inlinable public static var inOrder: Self { Self(bit: 35) }
    /// Memory needs the platform's barriers, not only the processors' (bit 36).
    @inlinable public static var orderPlatform: Self { Self(bit: 36) }
    /// A kick says how far the driver is (bit 38).
    @inlinable public static var notificationData: Self { Self(bit: 38) }
    /// A single ring can be reset (bit 40).
    @inlinable public static var ringReset: Self { Self(bit: 40) }

    /// `features 0x130000000`.
    public var description: String { "features 0x\(String(rawValue, radix: 16))" }
}
