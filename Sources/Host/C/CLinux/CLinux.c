#define _GNU_SOURCE
#include "CLinux.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/sockios.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

int causeway_memfd_create(const char *name) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    // Linux before 6.3 does not know MFD_NOEXEC_SEAL.
    if (fd < 0 && errno == EINVAL) fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd;
}

int causeway_seal_size(int descriptor) { return fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW); }
int causeway_seal_future_write(int descriptor) { return fcntl(descriptor, F_ADD_SEALS, F_SEAL_FUTURE_WRITE); }
int causeway_seal_seals(int descriptor) { return fcntl(descriptor, F_ADD_SEALS, F_SEAL_SEAL); }
int causeway_get_seals(int descriptor) { return fcntl(descriptor, F_GET_SEALS); }

int causeway_pipe(int descriptors[2], int capacity) {
    if (pipe2(descriptors, O_CLOEXEC | O_NONBLOCK) < 0) return -1;
    // Best effort: a small pipe drains in one read.
    (void)fcntl(descriptors[1], F_SETPIPE_SZ, capacity);
    return 0;
}

int causeway_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

int causeway_accept(int listener) { return accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK); }

enum { most_descriptors = 253 };  // the kernel's SCM_MAX_FD

long causeway_send_descriptors(int socket, const void *bytes, size_t length, const int *descriptors, int count) {
    if (count < 0 || count > most_descriptors) { errno = EINVAL; return -1; }
    union { struct cmsghdr header; char space[CMSG_SPACE(most_descriptors * sizeof(int))]; } control;
    struct iovec vector = {.iov_base = (void *)bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (count > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(header), descriptors, count * sizeof(int));
    }
    ssize_t sent;
    do sent = sendmsg(socket, &message, MSG_NOSIGNAL); while (sent < 0 && errno == EINTR);
    return sent;
}

long causeway_receive_descriptors(int socket, void *bytes, size_t length, int *descriptors, int capacity, int *count) {
    union { struct cmsghdr header; char space[CMSG_SPACE(most_descriptors * sizeof(int))]; } control;
    struct iovec vector = {.iov_base = bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.space,
                             .msg_controllen = sizeof control.space};
    *count = 0;
    ssize_t received;
    do received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC); while (received < 0 && errno == EINTR);
    if (received < 0) return -1;
    int overflow = (message.msg_flags & MSG_CTRUNC) != 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        int number = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (int i = 0; i < number; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
            if (*count < capacity) descriptors[(*count)++] = fd;
            else { close(fd); overflow = 1; }
        }
    }
    if (overflow) {
        for (int i = 0; i < *count; i++) close(descriptors[i]);
        *count = 0;
        errno = EMSGSIZE;
        return -1;
    }
    return received;
}

int causeway_unread_bytes(int socket) {
    int count = 0;
    return ioctl(socket, SIOCOUTQ, &count) < 0 ? -1 : count;
}

int causeway_peer_credentials(int socket, int32_t *process, uint32_t *user, uint32_t *group) {
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) return -1;
    *process = credentials.pid; *user = credentials.uid; *group = credentials.gid;
    return 0;
}

int causeway_listen_loopback(int is_six, uint16_t *port, int backlog) {
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(*port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr *address = is_six ? (struct sockaddr *)&six : (struct sockaddr *)&four;
    socklen_t length = is_six ? sizeof six : sizeof four;
    const int yes = 1;
    int socket_ = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (socket_ < 0) return -1;
    // Connections of a server that has ended keep their port for a minute.
    if (setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 || bind(socket_, address, length) < 0
        || listen(socket_, backlog) < 0 || getsockname(socket_, address, &length) < 0) {
        int error = errno;
        close(socket_);
        errno = error;
        return -1;
    }
    *port = ntohs(is_six ? six.sin6_port : four.sin_port);
    return socket_;
}

void causeway_set_no_delay(int socket) {
    const int yes = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

char **causeway_environment(void) { return environ; }
int causeway_exec(const char *program, char *const arguments[], char *const environment[]) {
    return execvpe(program, arguments, environment);
}

int causeway_die_with_parent(int signal) { return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0); }
int causeway_stay_loaded(const void *address) {
    Dl_info info;
    if (!dladdr(address, &info) || !info.dli_fname) return -1;
    return dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE) ? 0 : -1;
}
int causeway_set_undumpable(void) { return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }
int causeway_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }

int causeway_set_thread_name(const char *name) { return prctl(PR_SET_NAME, name, 0, 0, 0); }

int causeway_pin_to_processor(int processor) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    return sched_setaffinity(0, sizeof set, &set);
}

int causeway_block_size(int descriptor, uint64_t *bytes) { return ioctl(descriptor, BLKGETSIZE64, bytes); }

int causeway_block_sector_sizes(int descriptor, uint32_t *logical, uint32_t *physical) {
    int sector = 0;
    unsigned int block = 0;
    if (ioctl(descriptor, BLKSSZGET, &sector) < 0 || ioctl(descriptor, BLKPBSZGET, &block) < 0) return -1;
    *logical = (uint32_t)sector; *physical = block;
    return 0;
}

int causeway_block_read_only(int descriptor, int *read_only) { return ioctl(descriptor, BLKROGET, read_only); }

int causeway_block_discard(int descriptor, uint64_t offset, uint64_t length, int secure) {
    uint64_t range[2] = {offset, length};
    return ioctl(descriptor, secure ? BLKSECDISCARD : BLKDISCARD, range);
}

int causeway_o_direct(void) { return O_DIRECT; }

#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x00002000U
#endif

int causeway_direct_alignment(int descriptor, uint32_t *memory, uint32_t *offset) {
    // glibc's struct statx may be older than the field: the kernel's layout has it at byte 152 of 256.
    union { struct statx named; uint32_t words[64]; } status;
    memset(&status, 0, sizeof status);
    *memory = *offset = 0;
    if (statx(descriptor, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status.named) < 0) return -1;
    if (status.named.stx_mask & STATX_DIOALIGN) { *memory = status.words[38]; *offset = status.words[39]; }
    return 0;
}

int causeway_is_in_memory(int descriptor) {
    struct statfs status;
    return fstatfs(descriptor, &status) == 0 && (status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC);
}

int causeway_punch_hole_mode(void) { return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE; }
int causeway_zero_range_mode(void) { return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE; }

void causeway_device_number(uint64_t device, uint32_t *major_part, uint32_t *minor_part) {
    *major_part = gnu_dev_major(device);
    *minor_part = gnu_dev_minor(device);
}

int causeway_punch_hole(int descriptor, int64_t offset, int64_t length) {
    return fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}

int causeway_ioctl(int descriptor, unsigned long request, void *argument) { return ioctl(descriptor, request, argument); }

int causeway_has_capability(int capability) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0) return -1;
    return data[capability / 32].effective >> (capability % 32) & 1;
}

const char *causeway_error_name(int number) { return strerrorname_np(number); }
