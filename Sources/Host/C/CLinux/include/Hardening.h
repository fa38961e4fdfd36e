// A process that serves one domain gives up what it could use against another's.
#ifndef CAUSEWAY_HARDENING_H
#define CAUSEWAY_HARDENING_H

#include <stdint.h>

// Each returns 0, or -1 with errno. For the start of a process, before it has other threads: capabilities are a thread's own.

// Gives up every capability: bounding, ambient, inheritable, permitted, effective. There is no libc function for it.
int causeway_drop_capabilities(void);
// Gives up every capability but those in `kept` (bit n: capability n) that the process has; those stay permitted and effective, and go to no
// program that it runs.
int causeway_keep_capabilities(uint64_t kept);
// The effective capabilities, bit n for capability n; all bits set if the kernel does not say.
uint64_t causeway_capabilities(void);
// Becomes a user and a group, with no supplementary groups.
int causeway_become_user(uint32_t user, uint32_t group);
// Refuses (EPERM) the system calls that reach into another process: ptrace, process_vm_readv, process_vm_writev, pidfd_getfd,
// process_madvise, kcmp, userfaultfd, perf_event_open, bpf; and every call of another ABI. Needs no_new_privs. A BPF program's
// macros are not importable.
int causeway_filter_system_calls(void);
// Whether /proc/PID/mem, ptrace and their like are refused to others of the same user (PR_GET_DUMPABLE is 0).
int causeway_is_undumpable(void);

#endif
