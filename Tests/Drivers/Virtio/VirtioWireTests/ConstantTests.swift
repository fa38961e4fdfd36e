// Numbers that have names, against the names that Linux gives them.

import CVirtio
import Testing
import VirtioWire

private func value(_ name: String) throws -> UInt64 {
    for index in 0... {
        let one = cvirtio_constant(index)
        guard let found = one.name else { break }
        if String(cString: found) == name { return one.value }
    }
    throw NoSuchConstant(name: name)
}

private struct NoSuchConstant: Error { var name: String }

@Suite struct ConstantTests {
    @Test func features() throws {
        let ours: [String: VirtioFeatures] = [
            "VIRTIO_RING_F_INDIRECT_DESC": .indirectDescriptors, "VIRTIO_RING_F_EVENT_IDX": .eventIndex,
            "VIRTIO_F_NOTIFY_ON_EMPTY": .notifyOnEmpty, "VIRTIO_F_ANY_LAYOUT": .anyLayout, "VIRTIO_F_VERSION_1": .version1,
            "VIRTIO_F_ACCESS_PLATFORM": .accessPlatform, "VIRTIO_F_RING_PACKED": .packedRing, "VIRTIO_F_IN_ORDER": .inOrder,
            "VIRTIO_F_ORDER_PLATFORM": .orderPlatform, "VIRTIO_F_RING_RESET": .ringReset,
            "VIRTIO_BLK_F_SIZE_MAX": VirtioFeatures.Block.sizeMax, "VIRTIO_BLK_F_SEG_MAX": VirtioFeatures.Block.segmentMax,
            "VIRTIO_BLK_F_GEOMETRY": VirtioFeatures.Block.geometry, "VIRTIO_BLK_F_RO": VirtioFeatures.Block.readOnly,
            "VIRTIO_BLK_F_BLK_SIZE": VirtioFeatures.Block.blockSize, "VIRTIO_BLK_F_FLUSH": VirtioFeatures.Block.flush,
            "VIRTIO_BLK_F_TOPOLOGY": VirtioFeatures.Block.topology,
            "VIRTIO_BLK_F_CONFIG_WCE": VirtioFeatures.Block.configurableCache,
            "VIRTIO_BLK_F_MQ": VirtioFeatures.Block.multiQueue, "VIRTIO_BLK_F_DISCARD": VirtioFeatures.Block.discard,
            "VIRTIO_BLK_F_WRITE_ZEROES": VirtioFeatures.Block.writeZeroes,
            "VIRTIO_BLK_F_SECURE_ERASE": VirtioFeatures.Block.secureErase,
            "VIRTIO_NET_F_CSUM": VirtioFeatures.Network.checksum, "VIRTIO_NET_F_GUEST_CSUM": VirtioFeatures.Network.guestChecksum,
            "VIRTIO_NET_F_CTRL_GUEST_OFFLOADS": VirtioFeatures.Network.controlGuestOffloads,
            "VIRTIO_NET_F_MTU": VirtioFeatures.Network.mtu, "VIRTIO_NET_F_MAC": VirtioFeatures.Network.mac,
            "VIRTIO_NET_F_GUEST_TSO4": VirtioFeatures.Network.guestTSO4,
            "VIRTIO_NET_F_GUEST_TSO6": VirtioFeatures.Network.guestTSO6,
            "VIRTIO_NET_F_GUEST_ECN": VirtioFeatures.Network.guestECN, "VIRTIO_NET_F_GUEST_UFO": VirtioFeatures.Network.guestUFO,
            "VIRTIO_NET_F_HOST_TSO4": VirtioFeatures.Network.hostTSO4, "VIRTIO_NET_F_HOST_TSO6": VirtioFeatures.Network.hostTSO6,
            "VIRTIO_NET_F_HOST_ECN": VirtioFeatures.Network.hostECN, "VIRTIO_NET_F_HOST_UFO": VirtioFeatures.Network.hostUFO,
            "VIRTIO_NET_F_MRG_RXBUF": VirtioFeatures.Network.mergeableBuffers,
            "VIRTIO_NET_F_STATUS": VirtioFeatures.Network.status, "VIRTIO_NET_F_CTRL_VQ": VirtioFeatures.Network.controlQueue,
            "VIRTIO_NET_F_CTRL_RX": VirtioFeatures.Network.controlReceive,
            "VIRTIO_NET_F_CTRL_VLAN": VirtioFeatures.Network.controlVLAN,
            "VIRTIO_NET_F_GUEST_ANNOUNCE": VirtioFeatures.Network.guestAnnounce,
            "VIRTIO_NET_F_MQ": VirtioFeatures.Network.multiQueue, "VIRTIO_NET_F_CTRL_MAC_ADDR": VirtioFeatures.Network.controlMAC,
            "VIRTIO_NET_F_HASH_REPORT": VirtioFeatures.Network.hashReport,
            "VIRTIO_NET_F_RSS": VirtioFeatures.Network.receiveSideScaling,
        ]
        for (name, feature) in ours { #expect(feature.rawValue == 1 << (try value(name)), "\(name)") }
        // Of later headers than Debian 12's: numbers of the specification, version 1.3.
        #expect(VirtioFeatures.Block.lifetime.rawValue == 1 << 15 && VirtioFeatures.Block.zoned.rawValue == 1 << 17)
        #expect(VirtioFeatures.Network.guestUSO4.rawValue == 1 << 54 && VirtioFeatures.Network.guestUSO6.rawValue == 1 << 55)
        #expect(VirtioFeatures.Network.hostUSO.rawValue == 1 << 56 && VirtioFeatures.notificationData.rawValue == 1 << 38)
    }

    @Test func numbers() throws {
        let ours: [String: UInt64] = [
            "VRING_DESC_F_NEXT": UInt64(DescriptorFlags.next.rawValue),
            "VRING_DESC_F_WRITE": UInt64(DescriptorFlags.write.rawValue),
            "VRING_DESC_F_INDIRECT": UInt64(DescriptorFlags.indirect.rawValue),
            "VRING_USED_F_NO_NOTIFY": UInt64(SplitLayout.noKick), "VRING_AVAIL_F_NO_INTERRUPT": UInt64(SplitLayout.noSignal),
            "VRING_PACKED_EVENT_FLAG_ENABLE": UInt64(PackedEvent.always.flags),
            "VRING_PACKED_EVENT_FLAG_DISABLE": UInt64(PackedEvent.never.flags),
            "VRING_PACKED_EVENT_FLAG_DESC": UInt64(PackedEvent.atEntry(0).flags),
            "VRING_AVAIL_ALIGN_SIZE": UInt64(SplitLayout.driverAlignment),
            "VRING_USED_ALIGN_SIZE": UInt64(SplitLayout.deviceAlignment),
            "VRING_DESC_ALIGN_SIZE": UInt64(SplitLayout.descriptorAlignment),
            "VIRTIO_BLK_T_IN": UInt64(BlockRequestKind.read.rawValue), "VIRTIO_BLK_T_OUT": UInt64(BlockRequestKind.write.rawValue),
            "VIRTIO_BLK_T_FLUSH": UInt64(BlockRequestKind.flush.rawValue),
            "VIRTIO_BLK_T_GET_ID": UInt64(BlockRequestKind.identity.rawValue),
            "VIRTIO_BLK_T_DISCARD": UInt64(BlockRequestKind.discard.rawValue),
            "VIRTIO_BLK_T_WRITE_ZEROES": UInt64(BlockRequestKind.writeZeroes.rawValue),
            "VIRTIO_BLK_T_SECURE_ERASE": UInt64(BlockRequestKind.secureErase.rawValue),
            "VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP": UInt64(BlockRange.mayUnmap),
            "VIRTIO_BLK_ID_BYTES": UInt64(BlockRequestKind.identityBytes),
            "VIRTIO_BLK_S_OK": UInt64(BlockRequestStatus.okay.rawValue),
            "VIRTIO_BLK_S_IOERR": UInt64(BlockRequestStatus.failed.rawValue),
            "VIRTIO_BLK_S_UNSUPP": UInt64(BlockRequestStatus.unsupported.rawValue),
            "VIRTIO_NET_HDR_F_NEEDS_CSUM": UInt64(NetworkHeader.needsChecksum),
            "VIRTIO_NET_HDR_F_DATA_VALID": UInt64(NetworkHeader.checksumIsValid),
            "VIRTIO_NET_HDR_GSO_NONE": UInt64(NetworkHeader.whole), "VIRTIO_NET_HDR_GSO_TCPV4": UInt64(NetworkHeader.tcp4),
            "VIRTIO_NET_HDR_GSO_UDP": UInt64(NetworkHeader.udp), "VIRTIO_NET_HDR_GSO_TCPV6": UInt64(NetworkHeader.tcp6),
            "VIRTIO_NET_HDR_GSO_ECN": UInt64(NetworkHeader.congestionMarks),
            "VIRTIO_NET_S_LINK_UP": UInt64(NetworkConfiguration.linkIsUp),
            "VIRTIO_NET_S_ANNOUNCE": UInt64(NetworkConfiguration.announce),
        ]
        for (name, number) in ours { #expect(number == (try value(name)), "\(name)") }
        #expect(UInt64(DescriptorFlags.available.rawValue) == 1 << (try value("VRING_PACKED_DESC_F_AVAIL")))
        #expect(UInt64(DescriptorFlags.used.rawValue) == 1 << (try value("VRING_PACKED_DESC_F_USED")))
        // Of later headers than Debian 12's.
        #expect(BlockRequestKind.lifetime.rawValue == 10 && NetworkHeader.udpSegments == 5)
    }
}
