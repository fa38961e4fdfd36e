// System calls and constants that Swift's Glibc module lacks. One line of why for each.
#ifndef CAUSEWAY_CLINUX_H
#define CAUSEWAY_CLINUX_H

// No _GNU_SOURCE and no glibc header here: with it fd_set differs from the Glibc module's, and both cannot be imported.
#include <stddef.h>
#include <stdint.h>
#include "Bells.h"
#include "Confine.h"
#include "Faults.h"
#include "Hardening.h"
#include "Iommu.h"
#include "Locks.h"
#include "Network.h"
#include "Pin.h"
#include "UserFault.h"

// memfd_create and its seals: Glibc's module has neither the function nor the F_SEAL_* values.
int causeway_memfd_create(const char *name);
// Adds seals; `future_write` is Linux 5.1's F_SEAL_FUTURE_WRITE (existing writable mappings go on, new ones fail).
int causeway_seal_size(int descriptor);
int causeway_seal_future_write(int descriptor);
int causeway_seal_seals(int descriptor);
int causeway_get_seals(int descriptor);

// strerrorname_np needs _GNU_SOURCE. A constant text such as "ENOSPC", or NULL.
const char *causeway_error_name(int number);

// pipe2 and eventfd: flags are missing from the module.
int causeway_pipe(int descriptors[2], int capacity);
int causeway_eventfd(void);
// accept4: a descriptor that is never, not even for a moment, inherited by a program started from another thread.
int causeway_accept(int listener);

// SCM_RIGHTS: the CMSG_* macros are not importable.
// Sends `length` bytes and `count` descriptors as one message; returns bytes sent or -1 with errno.
long causeway_send_descriptors(int socket, const void *bytes, size_t length, const int *descriptors, int count);
// Receives one message; stores at most `capacity` descriptors (close-on-exec) and their number in `*count`. A message whose
// control data was truncated has all its descriptors closed and fails with EMSGSIZE.
long causeway_receive_descriptors(int socket, void *bytes, size_t length, int *descriptors, int capacity, int *count);
// Bytes of memory that hold what was sent and not received yet (SIOCOUTQ); negative with errno set.
int causeway_unread_bytes(int socket);
// SO_PEERCRED: struct ucred needs _GNU_SOURCE.
int causeway_peer_credentials(int socket, int32_t *process, uint32_t *user, uint32_t *group);
// Listens on this machine's own address of IPv4 or IPv6, at `*port`, or at a free one if that is 0, which it becomes. A descriptor, or -1 with errno.
int causeway_listen_loopback(int is_six, uint16_t *port, int backlog);
// Sends what is written at once (TCP_NODELAY); nothing for a socket of another kind.
void causeway_set_no_delay(int socket);

// A copy out of memory that a peer may be writing: every byte is loaded exactly once, whatever the optimizer would like.
// Words are loaded wherever they lie: a 32-bit guest's are aligned to 4 bytes, and a test for it costs more than such a load.
typedef uint64_t causeway_any_u64 __attribute__((aligned(1), may_alias));
typedef uint32_t causeway_any_u32 __attribute__((aligned(1), may_alias));
typedef uint16_t causeway_any_u16 __attribute__((aligned(1), may_alias));
static inline __attribute__((always_inline))
void causeway_copy_once(void *destination, const volatile void *source, size_t length) {
    unsigned char *to = (unsigned char *)destination;
    const volatile unsigned char *from = (const volatile unsigned char *)source;
    while (length >= 8) {
        *(causeway_any_u64 *)to = *(const volatile causeway_any_u64 *)from;
        to += 8; from += 8; length -= 8;
    }
    if (length >= 4) {
        *(causeway_any_u32 *)to = *(const volatile causeway_any_u32 *)from;
        to += 4; from += 4; length -= 4;
    }
    if (length >= 2) {
        *(causeway_any_u16 *)to = *(const volatile causeway_any_u16 *)from;
        to += 2; from += 2; length -= 2;
    }
    if (length > 0) *to = *from;
}

// ioctl is variadic, which Swift does not import.
__attribute__((visibility("hidden")))
int causeway_ioctl(int descriptor, unsigned long request, void *argument);
// Whether this process has a capability now (capget; linux/capability.h is not in the module); 1, 0, or -1 with errno.
__attribute__((visibility("hidden")))
int causeway_has_capability(int capability);

// Memory that will be read soon; any address.
static inline void causeway_prefetch(const void *address) { __builtin_prefetch(address); }

// A spin loop's hint to the core.
static inline void causeway_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield" ::: "memory");
#endif
}

// Earlier stores to memory are there for a device before a later one to its registers. On x86 stores are seen in order,
// also where one of the two places is not cached; elsewhere a barrier that reaches beyond the processors is needed.
static inline void causeway_device_write_fence(void) {
#if defined(__aarch64__)
    __asm__ volatile("dmb oshst" ::: "memory");
#elif defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("" ::: "memory");
#else
    __sync_synchronize();
#endif
}

// prctl is variadic and not imported: dies with the parent, refuses ptrace and /proc/PID/mem, gains no privileges.
int causeway_die_with_parent(int signal);
// environ, which Swift takes for a variable that threads race for: the list itself, ended by a null pointer.
char **causeway_environment(void);
// execvpe, which only GNU has: finds the program in the PATH, and has an environment of its own.
int causeway_exec(const char *program, char *const arguments[], char *const environment[]);
int causeway_set_undumpable(void);
int causeway_no_new_privileges(void);
// PR_SET_NAME: the calling thread's name in ps and perf, cut to 15 bytes.
int causeway_set_thread_name(const char *name);
// For Swift: whatever is given to such a function in safe code, it is good; such a structure's pointer is nobody's business but LinuxSystem's.
#define CAUSEWAY_SAFE __attribute__((swift_attr("@safe")))
// Bytes that a C caller lends for the length of a call; LinuxSystem makes spans and texts of them.
struct CAUSEWAY_SAFE causeway_lent_bytes {
    void *start;
    size_t count;
};
// dladdr needs _GNU_SOURCE: keeps the library that holds `address` mapped until the process ends, whoever closes it.
int causeway_stay_loaded(const void *address);
// Linux 2.6.25: pins the calling thread to one processor; cpu_set_t macros are not importable.
int causeway_pin_to_processor(int processor);

// Block devices: the BLK* ioctl numbers are macros. Each returns 0 or -1 with errno.
int causeway_block_size(int descriptor, uint64_t *bytes);
int causeway_block_sector_sizes(int descriptor, uint32_t *logical, uint32_t *physical);
int causeway_block_read_only(int descriptor, int *read_only);
int causeway_block_discard(int descriptor, uint64_t offset, uint64_t length, int secure);

// O_DIRECT and fallocate's modes are missing from the module.
int causeway_o_direct(void);
// What direct I/O must be aligned to (statx STATX_DIOALIGN, Linux 6.1): memory and file offset, in bytes; 0 both if unsupported or
// unknown. Returns 0 or -1 with errno.
int causeway_direct_alignment(int descriptor, uint32_t *memory, uint32_t *offset);
// Whether a file is on tmpfs or ramfs (fstatfs, missing from the module): 1 or 0.
int causeway_is_in_memory(int descriptor);
// FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, for an fallocate that io_uring does.
int causeway_punch_hole_mode(void);
// FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, the same way.
int causeway_zero_range_mode(void);
// A device number's halves: major() and minor() are macros.
void causeway_device_number(uint64_t device, uint32_t *major_part, uint32_t *minor_part);
int causeway_punch_hole(int descriptor, int64_t offset, int64_t length);

#endif
