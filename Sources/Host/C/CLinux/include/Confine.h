// A process's own cage: the system calls that it may make, and the files that it may reach. Neither has a libc function,
// and BPF's and Landlock's macros are not importable. For the start of a process, before it has other threads.
#ifndef CAUSEWAY_CONFINE_H
#define CAUSEWAY_CONFINE_H

#include <stddef.h>
#include <stdint.h>

// Groups of system calls; SystemCalls.c has the calls.
enum {
    causeway_calls_base = 1,           // memory, threads, time, signals, and reading and writing what is open
    causeway_calls_messages = 2,       // on sockets that are there
    causeway_calls_sockets = 4,        // new sockets, of the families Unix, IPv4, IPv6 and netlink
    causeway_calls_file_data = 8,      // on files that are open
    causeway_calls_files = 16,         // by a path
    causeway_calls_rings = 32,         // io_uring
    causeway_calls_programs = 64,      // other processes: starting, signalling, waiting for them; exec
    causeway_calls_namespaces = 128,   // entering and making them, and mounts
    causeway_calls_devices = 256,      // any ioctl but those that type at a terminal; user faults
    causeway_calls_ring_use = 1024,    // of rings that are there
    causeway_calls_confining = 512,    // what this header does, once more: for a program that another of ours becomes
};

// Refuses every call that is in none of the groups, from now on and on every thread: EPERM, and a line on stderr that says which, under `name`; with
// causeway_calls_programs, a line in the kernel's audit log. Calls of another ABI end the process. Returns 0, or -1 with errno. Needs no_new_privs.
int causeway_allow_calls(uint32_t groups, const char *name);
// How many calls that is; for a line that says it.
int causeway_count_calls(uint32_t groups);

// Landlock's version, 0: the kernel has none.
int causeway_landlock_version(void);
enum { causeway_may_read = 0, causeway_may_write = 1, causeway_may_remove = 2 };
// Refuses every file but what is below `paths` (`count` of them, with what is allowed there in `access`), TCP, and signals and abstract sockets of
// processes that are not below this one, as far as the kernel's version goes. A path that is not there is left out. Returns 0, or -1 with errno.
// Needs no_new_privs.
int causeway_restrict_files(const char *const *paths, const uint8_t *access, size_t count);

// Leaves no memory behind when it is killed for a fault, and takes no more; 0 or -1.
int causeway_no_cores(void);
// A user and a group without others, keeping the capabilities that are permitted (setresuid would drop them) and the signal for a parent's end, which
// it would forget. Fails with ESRCH if the parent has ended meanwhile.
int causeway_become_user_keeping(uint32_t user, uint32_t group, uint32_t parent);
// A network with nothing in it. Without the right to that, in a user namespace of its own, in which nobody has any rights.
int causeway_leave_network(int own_users);

#endif
