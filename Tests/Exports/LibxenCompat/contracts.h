// What the two programs of the contracts share: a domain that grants, and a domain that uses, talk over a pipe.
#ifndef CONTRACTS_H
#define CONTRACTS_H

#define __XEN_TOOLS__ 1

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xen/xen.h>
#include <xen/domctl.h>
#include <xen/version.h>
#include <xencall.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>
#include <xentoolcore.h>
#include <xentoollog.h>

extern int failures;

// Says what is not so, and goes on.
#define CHECK(condition) \
    do { if (!(condition)) { failures++; printf("%s:%d: not so: %s (errno %d: %s)\n", __FILE__, __LINE__, #condition, errno, strerror(errno)); fflush(stdout); } } while (0)
// The call fails with this number.
#define FAILS(call, number) \
    do { errno = 0; long result_ = (long)(call); int errno_ = errno; if (!(result_ == -1 && errno_ == (number))) { failures++; printf("%s:%d: %s: %ld, errno %d, not %s\n", __FILE__, __LINE__, #call, result_, errno_, #number); fflush(stdout); } } while (0)
#define NOTHING(call, number) \
    do { errno = 0; void *result_ = (void *)(call); int errno_ = errno; if (!(result_ == NULL && errno_ == (number))) { failures++; printf("%s:%d: %s: %p, errno %d, not %s\n", __FILE__, __LINE__, #call, result_, errno_, #number); fflush(stdout); } } while (0)

enum { pages_shared = 4 };

// What the granting domain has made.
struct offer {
    uint32_t writable[pages_shared];
    uint32_t read_only;
    uint32_t port;
};

// The granting domain's process and the pipes to and from it.
struct peer {
    pid_t pid;
    int to;
    int from;
    struct offer offer;
};

// Starts this program again as domain 1.
struct peer start_peer(const char *self);
// Has it do one thing: 'n' rings, 'w' waits for a ring, 'b' tells the first byte of its pages, 'q' ends.
int ask_peer(struct peer *peer, char command);
void end_peer(struct peer *peer, int signal);
int act_as_peer(void);

// A logger that says nothing, and how often it was told something.
xentoollog_logger *counting_logger(void);
extern int lines_logged;

void grants(struct peer *peer);
void copies(struct peer *peer);
void shares(void);
void events(struct peer *peer);
void restrictions(struct peer *peer);
void foreign(void);
void calls(void);
void threads(struct peer *peer);
void forks(struct peer *peer);
void broken_pipes(const char *self);

#endif
