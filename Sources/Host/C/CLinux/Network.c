#define _GNU_SOURCE
#include "Network.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sched.h>
#include <string.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int set_name(struct ifreq *request, const char *name) {
    memset(request, 0, sizeof *request);
    if (strlen(name) >= IFNAMSIZ) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(request->ifr_name, name);
    return 0;
}

static int interface_ioctl(unsigned long number, struct ifreq *request) {
    int socket_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket_ < 0) return -1;
    int result = ioctl(socket_, number, request);
    int saved = errno;
    close(socket_);
    errno = saved;
    return result;
}

int causeway_tap_open(const char *name, int *is_single) {
    struct ifreq request;
    if (set_name(&request, name) < 0) return -1;
    int tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (tap < 0) return -1;
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
    int size = 10;
    *is_single = 0;
    int result = ioctl(tap, TUNSETIFF, &request);
    if (result < 0 && errno == EINVAL && if_nametoindex(name) != 0) {
        // It is there and has one queue: whoever made it did not ask for several.
        request.ifr_flags &= ~IFF_MULTI_QUEUE;
        *is_single = 1;
        result = ioctl(tap, TUNSETIFF, &request);
    }
    if (result < 0 || ioctl(tap, TUNSETVNETHDRSZ, &size) < 0) {
        int saved = errno;
        close(tap);
        errno = saved;
        return -1;
    }
    return tap;
}

int causeway_tap_offload(int tap, unsigned int flags) {
    unsigned int bits = 0;
    if (flags & 1) bits |= TUN_F_CSUM;
    if (flags & 2) bits |= TUN_F_TSO4;
    if (flags & 4) bits |= TUN_F_TSO6;
    if (flags & 8) bits |= TUN_F_TSO_ECN;
    return ioctl(tap, TUNSETOFFLOAD, (unsigned long)bits);
}

int causeway_tap_attach_queue(int tap, int attach) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    request.ifr_flags = attach ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
    return ioctl(tap, TUNSETQUEUE, &request);
}

int causeway_tap_persist(int tap, int persist) { return ioctl(tap, TUNSETPERSIST, (unsigned long)persist); }

int causeway_tap_name(int tap, char name[16]) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    if (ioctl(tap, TUNGETIFF, &request) < 0) return -1;
    memcpy(name, request.ifr_name, 16);
    name[15] = 0;
    return 0;
}

int causeway_tap_is_single(int tap) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    if (ioctl(tap, TUNGETIFF, &request) < 0) return -1;
    return !(request.ifr_flags & IFF_MULTI_QUEUE);
}

int causeway_tap_namespace(int tap) { return ioctl(tap, TUNGETDEVNETNS); }

int causeway_tap_carrier(int tap, int up) { return ioctl(tap, TUNSETCARRIER, &up); }

int causeway_interface_exists(const char *name) { return if_nametoindex(name) != 0; }

int causeway_interface_set_address(const char *name, const uint8_t address[6]) {
    struct ifreq request;
    if (set_name(&request, name) < 0) return -1;
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(request.ifr_hwaddr.sa_data, address, 6);
    return interface_ioctl(SIOCSIFHWADDR, &request);
}

int causeway_interface_address(const char *name, uint8_t address[6]) {
    struct ifreq request;
    if (set_name(&request, name) < 0 || interface_ioctl(SIOCGIFHWADDR, &request) < 0) return -1;
    memcpy(address, request.ifr_hwaddr.sa_data, 6);
    return 0;
}

int causeway_interface_set_mtu(const char *name, int mtu) {
    struct ifreq request;
    if (set_name(&request, name) < 0) return -1;
    request.ifr_mtu = mtu;
    return interface_ioctl(SIOCSIFMTU, &request);
}

int causeway_interface_mtu(const char *name) {
    struct ifreq request;
    if (set_name(&request, name) < 0 || interface_ioctl(SIOCGIFMTU, &request) < 0) return -1;
    return request.ifr_mtu;
}

int causeway_interface_set_up(const char *name, int up) {
    struct ifreq request;
    if (set_name(&request, name) < 0 || interface_ioctl(SIOCGIFFLAGS, &request) < 0) return -1;
    if (up) request.ifr_flags |= IFF_UP; else request.ifr_flags &= ~IFF_UP;
    return interface_ioctl(SIOCSIFFLAGS, &request);
}

int causeway_interface_is_running(const char *name) {
    struct ifreq request;
    // Not IFF_RUNNING, which follows the carrier some time later.
    struct ethtool_value link = {.cmd = ETHTOOL_GLINK};
    if (set_name(&request, name) < 0) return 0;
    request.ifr_data = (void *)&link;
    return interface_ioctl(SIOCETHTOOL, &request) == 0 && link.data != 0;
}

int causeway_interface_is_tap(const char *name) {
    struct ifreq request;
    struct ethtool_drvinfo driver = {.cmd = ETHTOOL_GDRVINFO};
    if (set_name(&request, name) < 0) return 0;
    request.ifr_data = (void *)&driver;
    return interface_ioctl(SIOCETHTOOL, &request) == 0 && strcmp(driver.driver, "tun") == 0 && strcmp(driver.bus_info, "tap") == 0;
}

int causeway_interface_features(const char *name, struct causeway_features *features) {
    uint32_t bytes[2 + 4 * 4] = {0};
    struct ethtool_gfeatures *answer = (void *)bytes;
    struct ifreq request;
    answer->cmd = ETHTOOL_GFEATURES;
    answer->size = 4;
    if (set_name(&request, name) < 0) return -1;
    request.ifr_data = (void *)answer;
    if (interface_ioctl(SIOCETHTOOL, &request) < 0) return -1;
    // A kernel with more than 128 features tells of the first ones, and takes no partial wishes.
    if (answer->size > 4) { errno = EOPNOTSUPP; return -1; }
    features->blocks = answer->size;
    for (uint32_t i = 0; i < features->blocks; i++) {
        features->changeable[i] = answer->features[i].available;
        features->wanted[i] = answer->features[i].requested;
    }
    return 0;
}

int causeway_interface_want_features(const char *name, const struct causeway_features *features) {
    uint32_t bytes[2 + 2 * 4] = {0};
    struct ethtool_sfeatures *wish = (void *)bytes;
    struct ifreq request;
    if (features->blocks > 4) { errno = EINVAL; return -1; }
    wish->cmd = ETHTOOL_SFEATURES;
    wish->size = features->blocks;
    for (uint32_t i = 0; i < features->blocks; i++) {
        wish->features[i].valid = features->changeable[i];
        wish->features[i].requested = features->wanted[i] & features->changeable[i];
    }
    if (set_name(&request, name) < 0) return -1;
    request.ifr_data = (void *)wish;
    // Above 0: some of it cannot be had now. It is wanted all the same.
    return interface_ioctl(SIOCETHTOOL, &request) < 0 ? -1 : 0;
}

int causeway_bridge_add(const char *bridge, const char *name) {
    struct ifreq request;
    unsigned int index = if_nametoindex(name);
    if (index == 0 || set_name(&request, bridge) < 0) return -1;
    request.ifr_ifindex = (int)index;
    int result = interface_ioctl(SIOCBRADDIF, &request);
    // EBUSY: it is a port of a bridge already; after a restart, of this one.
    return result < 0 && errno == EBUSY ? 0 : result;
}

int causeway_enter_network_namespace(int descriptor) { return setns(descriptor, CLONE_NEWNET); }

int causeway_new_network_namespace(void) { return unshare(CLONE_NEWNET); }

int causeway_name_network_namespace(const char *path) {
    char own[64];
    int file = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
    if (file < 0) return -1;
    close(file);
    snprintf(own, sizeof own, "/proc/self/task/%ld/ns/net", (long)syscall(SYS_gettid));
    if (mount(own, path, "none", MS_BIND, NULL) < 0) {
        int saved = errno;
        unlink(path);
        errno = saved;
        return -1;
    }
    return 0;
}

int causeway_unmount(const char *path) { return umount2(path, MNT_DETACH); }

int causeway_datagram_pair(int sockets[2], int bytes) {
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets) < 0) return -1;
    for (int end = 0; end < 2; end++) {
        // Beyond the system's limit this takes what it can get.
        setsockopt(sockets[end], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    }
    return 0;
}

int causeway_frame_socket(const char *name) {
    struct sockaddr_ll address;
    memset(&address, 0, sizeof address);
    address.sll_family = AF_PACKET;
    address.sll_ifindex = (int)if_nametoindex(name);
    if (address.sll_ifindex == 0) return -1;
    // Protocol 0: it sends only.
    int frames = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (frames < 0) return -1;
    if (bind(frames, (struct sockaddr *)&address, sizeof address) < 0) {
        int saved = errno;
        close(frames);
        errno = saved;
        return -1;
    }
    return frames;
}

int causeway_send_frames(int socket_, const void *frame, size_t length, int count) {
    struct iovec vector = {.iov_base = (void *)frame, .iov_len = length};
    struct mmsghdr messages[64];
    if (count < 0 || count > 64) {
        errno = EINVAL;
        return -1;
    }
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < count; i++) {
        messages[i].msg_hdr.msg_iov = &vector;
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    return sendmmsg(socket_, messages, (unsigned int)count, 0);
}
