// Feature bits of a virtio network interface (VIRTIO_NET_F_* of linux/virtio_net.h). "Host" is the device's side: what
// it takes; "guest" the driver's.

extension VirtioFeatures {
    /// What only interfaces have.
    public enum Network {
        /// The device takes frames with blank checksums (bit 0).
        @inlinable public static var checksum: VirtioFeatures { VirtioFeatures(bit: 0) }
        /// The driver takes frames with blank checksums (bit 1).
        @inlinable public static var guestChecksum: VirtioFeatures { VirtioFeatures(bit: 1) }
        /// The driver may change what it takes later (bit 2).
        @inlinable public static var controlGuestOffloads: VirtioFeatures { VirtioFeatures(bit: 2) }
        /// `mtu` is set (bit 3).
        @inlinable public static var mtu: VirtioFeatures { VirtioFeatures(bit: 3) }
        /// `mac` is set (bit 5).
        @inlinable public static var mac: VirtioFeatures { VirtioFeatures(bit: 5) }
        /// The driver takes TCP over IPv4 to be segmented (bit 7).
        @inlinable public static var guestTSO4: VirtioFeatures { VirtioFeatures(bit: 7) }
        /// The driver takes TCP over IPv6 to be segmented (bit 8).
        @inlinable public static var guestTSO6: VirtioFeatures { VirtioFeatures(bit: 8) }
        /// … with congestion marks (bit 9).
        @inlinable public static var guestECN: VirtioFeatures { VirtioFeatures(bit: 9) }
        /// The driver takes UDP to be fragmented (bit 10).
        @inlinable public static var guestUFO: VirtioFeatures { VirtioFeatures(bit: 10) }
        /// The device takes TCP over IPv4 to be segmented (bit 11).
        @inlinable public static var hostTSO4: VirtioFeatures { VirtioFeatures(bit: 11) }
        /// The device takes TCP over IPv6 to be segmented (bit 12).
        @inlinable public static var hostTSO6: VirtioFeatures { VirtioFeatures(bit: 12) }
        /// … with congestion marks (bit 13).
        @inlinable public static var hostECN: VirtioFeatures { VirtioFeatures(bit: 13) }
        /// The device takes UDP to be fragmented (bit 14).
        @inlinable public static var hostUFO: VirtioFeatures { VirtioFeatures(bit: 14) }
        /// A received frame may lie in several chains (bit 15).
        @inlinable public static var mergeableBuffers: VirtioFeatures { VirtioFeatures(bit: 15) }
        /// `status` is set (bit 16).
        @inlinable public static var status: VirtioFeatures { VirtioFeatures(bit: 16) }
        /// There is a control queue (bit 17).
        @inlinable public static var controlQueue: VirtioFeatures { VirtioFeatures(bit: 17) }
        /// … for what is received (bit 18).
        @inlinable public static var controlReceive: VirtioFeatures { VirtioFeatures(bit: 18) }
        /// … for VLANs (bit 19).
        @inlinable public static var controlVLAN: VirtioFeatures { VirtioFeatures(bit: 19) }
        /// The driver announces itself when asked to (bit 21).
        @inlinable public static var guestAnnounce: VirtioFeatures { VirtioFeatures(bit: 21) }
        /// Several pairs of queues (bit 22).
        @inlinable public static var multiQueue: VirtioFeatures { VirtioFeatures(bit: 22) }
        /// The control queue sets the MAC address (bit 23).
        @inlinable public static var controlMAC: VirtioFeatures { VirtioFeatures(bit: 23) }
        /// The driver takes UDP over IPv4 to be segmented (bit 54).
        @inlinable public static var guestUSO4: VirtioFeatures { VirtioFeatures(bit: 54) }
        /// The driver takes UDP over IPv6 to be segmented (bit 55).
        @inlinable public static var guestUSO6: VirtioFeatures { VirtioFeatures(bit: 55) }
        /// The device takes UDP to be segmented (bit 56).
        @inlinable public static var hostUSO: VirtioFeatures { VirtioFeatures(bit: 56) }
        /// The header has the frame's hash (bit 57).
        @inlinable public static var hashReport: VirtioFeatures { VirtioFeatures(bit: 57) }
        /// The hash chooses the queue (bit 60).
        @inlinable public static var receiveSideScaling: VirtioFeatures { VirtioFeatures(bit: 60) }
    }
}
