// Network interfaces and namespaces: ioctl numbers and structures are macros and unions that Swift does not import.
#ifndef CAUSEWAY_NETWORK_H
#define CAUSEWAY_NETWORK_H
#include <stddef.h>
#include <stdint.h>

// Attaches to the tap `name` (made if there is none), with vnet headers of 10 bytes and room for several queues; returns a
// non-blocking descriptor or -1 with errno.
int causeway_tap_open(const char *name);
// TUNSETOFFLOAD: which packets the kernel may hand to us: bit 0 blank checksums, 1 TCPv4 and 2 TCPv6 larger than the MTU, 3 with ECN.
int causeway_tap_offload(int tap, unsigned int flags);
// TUNSETQUEUE: attaches or detaches a queue; a detached one keeps the interface and gets no traffic.
int causeway_tap_attach_queue(int tap, int attach);
// TUNSETCARRIER (Linux 4.20): whether the interface has a carrier.
int causeway_tap_carrier(int tap, int up);
// TUNSETPERSIST: whether the interface stays when its last descriptor is closed.
int causeway_tap_persist(int tap, int persist);
// TUNGETIFF: what the tap's interface is called now.
int causeway_tap_name(int tap, char name[16]);

// By the interface's name, in the calling thread's namespace; 0 or -1 with errno.
int causeway_interface_exists(const char *name);
int causeway_interface_set_address(const char *name, const uint8_t address[6]);
int causeway_interface_address(const char *name, uint8_t address[6]);
int causeway_interface_set_mtu(const char *name, int mtu);
int causeway_interface_mtu(const char *name);
int causeway_interface_set_up(const char *name, int up);
// Interfaces already in the bridge stay in it.
int causeway_bridge_add(const char *bridge, const char *name);

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
