#define _GNU_SOURCE
#include "CLibxenCompat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

void causeway_xtl_say(xentoollog_logger *logger, int error, const char *context, const char *line)
{
    if (logger)
        xtl_log(logger, XTL_ERROR, error ? error : -1, context, "%s", line);
}

xentoollog_logger *causeway_xtl_default(void)
{
    return (xentoollog_logger *)xtl_createlogger_stdiostream(stderr, XTL_PROGRESS, 0);
}

// xentoolcore's ABI (VERS_1.0): a record begins with the callback and the list's two pointers.
struct active_handle {
    int (*callback)(struct active_handle *handle, domid_t domain);
    struct active_handle *next;
    struct active_handle **previous;
    causeway_restricting *restricting;
    void *owner;
};
void xentoolcore__register_active_handle(struct active_handle *handle);
void xentoolcore__deregister_active_handle(struct active_handle *handle);

static int restricted(struct active_handle *handle, domid_t domain)
{
    return handle->restricting(handle->owner, domain);
}

void *causeway_register_handle(causeway_restricting *restricting, void *owner)
{
    struct active_handle *record = calloc(1, sizeof *record);
    if (!record)
        return NULL;
    record->callback = restricted;
    record->restricting = restricting;
    record->owner = owner;
    xentoolcore__register_active_handle(record);
    return record;
}

void causeway_unregister_handle(void *record)
{
    if (!record)
        return;
    xentoolcore__deregister_active_handle(record);
    free(record);
}

int causeway_epoll_create(int close_on_exec)
{
    return epoll_create1(close_on_exec ? EPOLL_CLOEXEC : 0);
}

static int change(int epoll, int operation, int descriptor, uint32_t port)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = port};
    return epoll_ctl(epoll, operation, descriptor, &event);
}

int causeway_epoll_add(int epoll, int descriptor, uint32_t port)
{
    return change(epoll, EPOLL_CTL_ADD, descriptor, port);
}

int causeway_epoll_again(int epoll, int descriptor, uint32_t port)
{
    return change(epoll, EPOLL_CTL_MOD, descriptor, port);
}

int causeway_epoll_remove(int epoll, int descriptor)
{
    return change(epoll, EPOLL_CTL_DEL, descriptor, 0);
}

long causeway_epoll_next(int epoll, int wait)
{
    struct epoll_event event;
    int count = epoll_wait(epoll, &event, 1, wait ? -1 : 0);
    if (count == 1)
        return (long)event.data.u64;
    if (count == 0)
        errno = EAGAIN;
    return -1;
}

int causeway_is_nonblocking(int descriptor)
{
    int flags = fcntl(descriptor, F_GETFL);
    return flags >= 0 && flags & O_NONBLOCK;
}

int causeway_duplicate_pages(void *from, void *at, size_t length)
{
    return mremap(from, 0, length, MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED ? -1 : 0;
}

uint32_t *causeway_fork_mark(void)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return NULL;
    if (madvise(page, size, MADV_WIPEONFORK) < 0) {
        int error = errno;
        munmap(page, size);
        errno = error;
        return NULL;
    }
    return page;
}
