// Network interfaces and namespaces: ioctl numbers and structures are macros and unions that Swift does not import.
#ifndef CAUSEWAY_NETWORK_H
#define CAUSEWAY_NETWORK_H
#include <stddef.h>
#include <stdint.h>

// Attaches to the tap `name` (made if there is none), with vnet headers of 10 bytes and room for several queues, or to one
// that was made with room for a single one; returns a non-blocking descriptor or -1 with errno.
int causeway_tap_open(const char *name, int *is_single);
// TUNSETOFFLOAD: which packets the kernel may hand to us: bit 0 blank checksums, 1 TCPv4 and 2 TCPv6 larger than the MTU, 3 with ECN.
int causeway_tap_offload(int tap, unsigned int flags);
// TUNSETQUEUE: attaches or detaches a queue; a detached one keeps the interface and gets no traffic.
int causeway_tap_attach_queue(int tap, int attach);
// TUNSETCARRIER (Linux 4.20): whether the interface has a carrier.
int causeway_tap_carrier(int tap, int up);
// TUNSETPERSIST: whether the interface stays when its last descriptor is closed.
int causeway_tap_persist(int tap, int persist);
// TUNGETDEVNETNS (Linux 5.8): the network namespace that the tap is in, as a new descriptor; or -1 with errno.
int causeway_tap_namespace(int tap);
// TUNGETIFF: what the tap's interface is called now.
int causeway_tap_name(int tap, char name[16]);
// TUNGETIFF: 1 if the tap has room for one queue only, 0 if for several; or -1 with errno.
int causeway_tap_is_single(int tap);

// By the interface's name, in the calling thread's namespace; 0 or -1 with errno.
int causeway_interface_exists(const char *name);
// Whether it is up and has a carrier.
int causeway_interface_is_running(const char *name);
// Whether it is a tap, of whatever program.
int causeway_interface_is_tap(const char *name);
/* What an interface's users want of its features, by the kernel's own numbers: as ethtool -K has it, whether or not it can be had now. */
struct causeway_features {
    uint32_t blocks;
    uint32_t changeable[4];
    uint32_t wanted[4];
};
int causeway_interface_features(const char *name, struct causeway_features *features);
int causeway_interface_want_features(const char *name, const struct causeway_features *features);
int causeway_interface_set_address(const char *name, const uint8_t address[6]);
int causeway_interface_address(const char *name, uint8_t address[6]);
int causeway_interface_set_mtu(const char *name, int mtu);
int causeway_interface_mtu(const char *name);
int causeway_interface_set_up(const char *name, int up);
// Interfaces already in the bridge stay in it.
int causeway_bridge_add(const char *bridge, const char *name);

// The number of the bridge that an interface is a port of; 0: none; -1 with errno.
int64_t causeway_interface_master(const char *name);
// Whether a bridge looks at VLANs (1, 0); -1 with errno, ENOTSUP for what is no bridge or for a kernel that cannot.
int causeway_bridge_filters_vlans(const char *bridge);
// Puts the bridge's port `name` into the VLANs from `first` to `last`, or takes it out of them. As bridge-vlan(8) does.
int causeway_port_vlans(const char *name, uint16_t first, uint16_t last, int is_primary, int is_untagged, int is_added);

// A non-blocking socket that tells of interfaces that change: those of the calling thread's namespace and, where the process
// may, of the others that it knows; or -1 with errno.
int causeway_link_watch(void);
// Reads what it has to tell: the numbers of at most `room` interfaces. Returns how many, 0 if there is nothing now, or -1
// with errno; ENOBUFS: some were missed.
int causeway_link_changes(int watch, uint32_t *indices, int room);

// setns(2) into the network namespace that `descriptor` is; unshare(2) into a new one; both for the calling thread.
int causeway_enter_network_namespace(int descriptor);
int causeway_new_network_namespace(void);
// Makes `path` (a file) name the calling thread's network namespace, as ip-netns does; and takes the name back.
int causeway_name_network_namespace(const char *path);
int causeway_unmount(const char *path);

// A pair of connected datagram sockets, non-blocking, with room for `bytes` on the way.
int causeway_datagram_pair(int sockets[2], int bytes);

// A socket that sends whole Ethernet frames on the interface `name`; or -1 with errno.
int causeway_frame_socket(const char *name);
// Sends `count` (at most 64) times the same frame of `length` bytes; returns how many went, or -1 with errno (ENOBUFS: the queue is full).
int causeway_send_frames(int socket, const void *frame, size_t length, int count);
#endif
