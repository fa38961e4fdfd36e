#define _GNU_SOURCE
#include "CAttempts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int bell = -1;

void attempts_prepare(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) return;
    close(ends[0]);
    bell = ends[1];
}

static int outcome(long result) { return result < 0 ? errno : 0; }

static int open_path(const char *path, int flags) {
    int file = open(path, flags | O_CLOEXEC);
    if (file >= 0) close(file);
    return outcome(file);
}

static int try_files(const char *name, int process) {
    char path[64];
    if (!strcmp(name, "open")) return open_path("/etc/passwd", O_RDONLY);
    if (!strcmp(name, "create")) return open_path("/tmp/causeway-attempt", O_RDWR | O_CREAT);
    if (!strcmp(name, "memory")) {
        snprintf(path, sizeof path, "/proc/%d/mem", process);
        return open_path(path, O_RDONLY);
    }
    if (!strcmp(name, "bell")) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", bell);
        return open_path(path, O_RDONLY | O_NONBLOCK);
    }
    return -1;
}

static int try_processes(const char *name, int process) {
    char byte;
    struct iovec here = {&byte, 1}, there = {&byte, 1};
    if (!strcmp(name, "ptrace")) {
        long result = ptrace(PTRACE_ATTACH, process, NULL, NULL);
        int error = outcome(result);
        if (result == 0) { waitpid(process, NULL, __WALL); ptrace(PTRACE_DETACH, process, NULL, NULL); }
        return error;
    }
    // Nothing is there to be read: EFAULT from a process that may be read.
    if (!strcmp(name, "vm_readv")) return outcome(process_vm_readv(process, &here, 1, &there, 1, 0)) == EPERM ? EPERM : 0;
    if (!strcmp(name, "signal")) return outcome(kill(process, 0));
    if (!strcmp(name, "dumpable")) return outcome(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
    if (!strcmp(name, "fork")) {
        pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (child == 0) _exit(0);
        if (child > 0) waitpid(child, NULL, 0);
        return outcome(child);
    }
    if (!strcmp(name, "exec")) {
        // No such program: ENOENT where programs may be run.
        char *const words[] = {(char *)"/nowhere", NULL};
        execv(words[0], words);
        return errno == ENOENT ? 0 : errno;
    }
    return -1;
}

static int try_system(const char *name) {
    if (!strcmp(name, "socket")) {
        int one = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (one >= 0) close(one);
        return outcome(one);
    }
    if (!strcmp(name, "packets")) {
        int one = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
        if (one >= 0) close(one);
        return outcome(one);
    }
    if (!strcmp(name, "ring")) {
        struct io_uring_params parameters = {0};
        int one = (int)syscall(SYS_io_uring_setup, 1, &parameters);
        if (one >= 0) close(one);
        return outcome(one);
    }
    if (!strcmp(name, "mount")) return outcome(mount("none", "/nowhere", "tmpfs", 0, NULL)) == ENOENT ? 0 : errno;
    if (!strcmp(name, "unshare")) return outcome(unshare(CLONE_NEWUTS));
    if (!strcmp(name, "root")) return outcome(setuid(0));
    if (!strcmp(name, "bpf")) return outcome(syscall(SYS_bpf, 0, NULL, 0)) == EPERM ? EPERM : 0;
    // A call of the 32-bit ABI, which has numbers of its own: ends a confined process.
#if defined(__x86_64__)
    if (!strcmp(name, "abi")) {
        long result = 20;
        __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
        return result > 0 ? 0 : (int)-result;
    }
#endif
    return -1;
}

int attempts_try(const char *name, int process) {
    int result = try_files(name, process);
    if (result == -1) result = try_processes(name, process);
    if (result == -1) result = try_system(name);
    return result;
}
