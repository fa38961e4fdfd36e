#include "CVirtio.h"
#include <stdlib.h>
#include <string.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>

#define WHOLE(s) { #s, "", 0, sizeof(struct s) }
#define FIELD(s, f) { #s, #f, offsetof(struct s, f), sizeof(((struct s *)0)->f) }

static const struct cvirtio_field fields[] = {
    WHOLE(vring_desc), FIELD(vring_desc, addr), FIELD(vring_desc, len), FIELD(vring_desc, flags), FIELD(vring_desc, next),
    WHOLE(vring_used_elem), FIELD(vring_used_elem, id), FIELD(vring_used_elem, len),
    FIELD(vring_avail, flags), FIELD(vring_avail, idx), { "vring_avail", "ring", offsetof(struct vring_avail, ring), 0 },
    FIELD(vring_used, flags), FIELD(vring_used, idx), { "vring_used", "ring", offsetof(struct vring_used, ring), 0 },
    WHOLE(vring_packed_desc), FIELD(vring_packed_desc, addr), FIELD(vring_packed_desc, len), FIELD(vring_packed_desc, id),
    FIELD(vring_packed_desc, flags),
    WHOLE(vring_packed_desc_event), FIELD(vring_packed_desc_event, off_wrap), FIELD(vring_packed_desc_event, flags),
    WHOLE(virtio_blk_outhdr), FIELD(virtio_blk_outhdr, type), FIELD(virtio_blk_outhdr, ioprio), FIELD(virtio_blk_outhdr, sector),
    WHOLE(virtio_blk_discard_write_zeroes), FIELD(virtio_blk_discard_write_zeroes, sector),
    FIELD(virtio_blk_discard_write_zeroes, num_sectors), FIELD(virtio_blk_discard_write_zeroes, flags),
    FIELD(virtio_blk_config, capacity), FIELD(virtio_blk_config, size_max), FIELD(virtio_blk_config, seg_max),
    FIELD(virtio_blk_config, geometry.cylinders), FIELD(virtio_blk_config, geometry.heads),
    FIELD(virtio_blk_config, geometry.sectors), FIELD(virtio_blk_config, blk_size),
    FIELD(virtio_blk_config, physical_block_exp), FIELD(virtio_blk_config, alignment_offset),
    FIELD(virtio_blk_config, min_io_size), FIELD(virtio_blk_config, opt_io_size), FIELD(virtio_blk_config, wce),
    FIELD(virtio_blk_config, num_queues), FIELD(virtio_blk_config, max_discard_sectors),
    FIELD(virtio_blk_config, max_discard_seg), FIELD(virtio_blk_config, discard_sector_alignment),
    FIELD(virtio_blk_config, max_write_zeroes_sectors), FIELD(virtio_blk_config, max_write_zeroes_seg),
    FIELD(virtio_blk_config, write_zeroes_may_unmap), FIELD(virtio_blk_config, max_secure_erase_sectors),
    FIELD(virtio_blk_config, max_secure_erase_seg), FIELD(virtio_blk_config, secure_erase_sector_alignment),
    WHOLE(virtio_net_hdr_v1), FIELD(virtio_net_hdr_v1, flags), FIELD(virtio_net_hdr_v1, gso_type),
    FIELD(virtio_net_hdr_v1, hdr_len), FIELD(virtio_net_hdr_v1, gso_size), FIELD(virtio_net_hdr_v1, csum_start),
    FIELD(virtio_net_hdr_v1, csum_offset), FIELD(virtio_net_hdr_v1, num_buffers),
    WHOLE(virtio_net_hdr_v1_hash), FIELD(virtio_net_hdr_v1_hash, hash_value), FIELD(virtio_net_hdr_v1_hash, hash_report),
    WHOLE(virtio_net_config), FIELD(virtio_net_config, mac), FIELD(virtio_net_config, status),
    FIELD(virtio_net_config, max_virtqueue_pairs), FIELD(virtio_net_config, mtu), FIELD(virtio_net_config, speed),
    FIELD(virtio_net_config, duplex), FIELD(virtio_net_config, rss_max_key_size),
    FIELD(virtio_net_config, rss_max_indirection_table_length), FIELD(virtio_net_config, supported_hash_types),
};

struct cvirtio_field cvirtio_field(size_t index) {
    static const struct cvirtio_field none;
    return index < sizeof fields / sizeof *fields ? fields[index] : none;
}

#define VALUE(c) { #c, (uint64_t)(c) }

static const struct cvirtio_constant constants[] = {
    VALUE(VRING_DESC_F_NEXT), VALUE(VRING_DESC_F_WRITE), VALUE(VRING_DESC_F_INDIRECT), VALUE(VRING_PACKED_DESC_F_AVAIL),
    VALUE(VRING_PACKED_DESC_F_USED), VALUE(VRING_USED_F_NO_NOTIFY), VALUE(VRING_AVAIL_F_NO_INTERRUPT),
    VALUE(VRING_PACKED_EVENT_FLAG_ENABLE), VALUE(VRING_PACKED_EVENT_FLAG_DISABLE), VALUE(VRING_PACKED_EVENT_FLAG_DESC),
    VALUE(VRING_PACKED_EVENT_F_WRAP_CTR), VALUE(VRING_AVAIL_ALIGN_SIZE), VALUE(VRING_USED_ALIGN_SIZE),
    VALUE(VRING_DESC_ALIGN_SIZE), VALUE(VIRTIO_RING_F_INDIRECT_DESC), VALUE(VIRTIO_RING_F_EVENT_IDX),
    VALUE(VIRTIO_F_NOTIFY_ON_EMPTY), VALUE(VIRTIO_F_ANY_LAYOUT), VALUE(VIRTIO_F_VERSION_1), VALUE(VIRTIO_F_ACCESS_PLATFORM),
    VALUE(VIRTIO_F_RING_PACKED), VALUE(VIRTIO_F_IN_ORDER), VALUE(VIRTIO_F_ORDER_PLATFORM), VALUE(VIRTIO_F_RING_RESET),
    VALUE(VIRTIO_BLK_F_SIZE_MAX), VALUE(VIRTIO_BLK_F_SEG_MAX), VALUE(VIRTIO_BLK_F_GEOMETRY), VALUE(VIRTIO_BLK_F_RO),
    VALUE(VIRTIO_BLK_F_BLK_SIZE), VALUE(VIRTIO_BLK_F_FLUSH), VALUE(VIRTIO_BLK_F_TOPOLOGY), VALUE(VIRTIO_BLK_F_CONFIG_WCE),
    VALUE(VIRTIO_BLK_F_MQ), VALUE(VIRTIO_BLK_F_DISCARD), VALUE(VIRTIO_BLK_F_WRITE_ZEROES), VALUE(VIRTIO_BLK_F_SECURE_ERASE),
    VALUE(VIRTIO_BLK_T_IN), VALUE(VIRTIO_BLK_T_OUT), VALUE(VIRTIO_BLK_T_FLUSH), VALUE(VIRTIO_BLK_T_GET_ID),
    VALUE(VIRTIO_BLK_T_DISCARD), VALUE(VIRTIO_BLK_T_WRITE_ZEROES), VALUE(VIRTIO_BLK_T_SECURE_ERASE),
    VALUE(VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP), VALUE(VIRTIO_BLK_ID_BYTES), VALUE(VIRTIO_BLK_S_OK), VALUE(VIRTIO_BLK_S_IOERR),
    VALUE(VIRTIO_BLK_S_UNSUPP), VALUE(VIRTIO_NET_F_CSUM), VALUE(VIRTIO_NET_F_GUEST_CSUM),
    VALUE(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS), VALUE(VIRTIO_NET_F_MTU), VALUE(VIRTIO_NET_F_MAC), VALUE(VIRTIO_NET_F_GUEST_TSO4),
    VALUE(VIRTIO_NET_F_GUEST_TSO6), VALUE(VIRTIO_NET_F_GUEST_ECN), VALUE(VIRTIO_NET_F_GUEST_UFO), VALUE(VIRTIO_NET_F_HOST_TSO4),
    VALUE(VIRTIO_NET_F_HOST_TSO6), VALUE(VIRTIO_NET_F_HOST_ECN), VALUE(VIRTIO_NET_F_HOST_UFO), VALUE(VIRTIO_NET_F_MRG_RXBUF),
    VALUE(VIRTIO_NET_F_STATUS), VALUE(VIRTIO_NET_F_CTRL_VQ), VALUE(VIRTIO_NET_F_CTRL_RX), VALUE(VIRTIO_NET_F_CTRL_VLAN),
    VALUE(VIRTIO_NET_F_GUEST_ANNOUNCE), VALUE(VIRTIO_NET_F_MQ), VALUE(VIRTIO_NET_F_CTRL_MAC_ADDR),
    VALUE(VIRTIO_NET_F_HASH_REPORT), VALUE(VIRTIO_NET_F_RSS), VALUE(VIRTIO_NET_HDR_F_NEEDS_CSUM),
    VALUE(VIRTIO_NET_HDR_F_DATA_VALID), VALUE(VIRTIO_NET_HDR_GSO_NONE), VALUE(VIRTIO_NET_HDR_GSO_TCPV4),
    VALUE(VIRTIO_NET_HDR_GSO_UDP), VALUE(VIRTIO_NET_HDR_GSO_TCPV6), VALUE(VIRTIO_NET_HDR_GSO_ECN),
    VALUE(VIRTIO_NET_S_LINK_UP), VALUE(VIRTIO_NET_S_ANNOUNCE),
};

struct cvirtio_constant cvirtio_constant(size_t index) {
    static const struct cvirtio_constant none;
    return index < sizeof constants / sizeof *constants ? constants[index] : none;
}

bool cvirtio_need_event(uint16_t event, uint16_t next, uint16_t old) { return vring_need_event(event, next, old); }

bool cvirtio_packed_need_event(uint16_t off_wrap, uint16_t next, bool wrap, uint16_t added, uint16_t size) {
    uint16_t event = off_wrap & ~(1 << VRING_PACKED_EVENT_F_WRAP_CTR);
    if ((off_wrap >> VRING_PACKED_EVENT_F_WRAP_CTR) != wrap) event -= size;
    return vring_need_event(event, next, next - added);
}

struct cvirtio_vring cvirtio_vring(unsigned int size, unsigned long align) {
    struct vring ring;
    // Only addresses are computed.
    char *base = (char *)0x100000;
    vring_init(&ring, size, base, align);
    struct cvirtio_vring found = {
        .driver = (char *)ring.avail - base, .device = (char *)ring.used - base,
        .used_event = (char *)&vring_used_event(&ring) - (char *)ring.avail,
        .avail_event = (char *)&vring_avail_event(&ring) - (char *)ring.used, .size = vring_size(size, align),
    };
    return found;
}

#define FENCE() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define LOAD(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)

uint64_t cvirtio_round_trips(void *memory, unsigned int size, uint64_t count, uint32_t batch) {
    struct vring ring;
    memset(memory, 0, vring_size(size, 4));
    vring_init(&ring, size, memory, 4);
    uint16_t next[size], head = 0, shown = 0, reaped = 0, taken = 0, used = 0;
    for (unsigned int i = 0; i < size; i++) next[i] = (i + 1) % size;
    uint64_t sum = 0;
    for (uint64_t done = 0; done < count; done += batch) {
        uint16_t old = shown;
        for (uint32_t i = 0; i < batch; i++) {
            uint16_t first = head;
            const uint32_t lengths[3] = { 16, 4096, 1 };
            for (int part = 0; part < 3; part++) {
                struct vring_desc *desc = &ring.desc[head];
                desc->addr = 0x10000 + 4096 * (uint64_t)(part + 3 * i);
                desc->len = lengths[part];
                desc->flags = (part < 2 ? VRING_DESC_F_NEXT : 0) | (part > 0 ? VRING_DESC_F_WRITE : 0);
                desc->next = part < 2 ? next[head] : 0;
                head = next[head];
            }
            ring.avail->ring[shown++ % size] = first;
        }
        STORE(&ring.avail->idx, shown);
        FENCE();
        sum += vring_need_event(*(volatile uint16_t *)&vring_avail_event(&ring), shown, old);
        uint16_t available = LOAD(&ring.avail->idx), answered = used;
        while (taken != available) {
            uint16_t id = *(volatile uint16_t *)&ring.avail->ring[taken++ % size], index = id;
            for (;;) {
                volatile struct vring_desc *desc = &ring.desc[index];
                uint64_t address = desc->addr;
                uint32_t length = desc->len;
                uint16_t flags = desc->flags;
                sum += address + length;
                if (!(flags & VRING_DESC_F_NEXT)) break;
                index = desc->next;
                if (index >= size) return 0;
            }
            ring.used->ring[used % size].id = id;
            ring.used->ring[used++ % size].len = 4097;
        }
        STORE(&ring.used->idx, used);
        FENCE();
        sum += vring_need_event(*(volatile uint16_t *)&vring_used_event(&ring), used, answered);
        uint16_t ready = LOAD(&ring.used->idx);
        while (reaped != ready) {
            volatile struct vring_used_elem *one = (volatile void *)&ring.used->ring[reaped++ % size];
            uint16_t id = one->id;
            sum += one->len;
            uint16_t last = id;
            for (int part = 0; part < 2; part++) last = next[last];
            next[last] = head;
            head = id;
        }
        vring_used_event(&ring) = reaped;
        vring_avail_event(&ring) = taken;
        FENCE();
        sum += LOAD(&ring.used->idx) != reaped;
        sum += LOAD(&ring.avail->idx) != taken;
    }
    return sum;
}
