// The functions that LibxenCompat takes the place of, as libxen-dev declares them, so that the compiler holds each to its
// declaration; the toolstack's structures, for what hypercalls are asked; and what Swift cannot say of C.
#ifndef CAUSEWAY_CLIBXENCOMPAT_H
#define CAUSEWAY_CLIBXENCOMPAT_H

// Undefined it is 0, and half the names change; above 0x00041000 the 4.17 headers refuse it.
#define __XEN_INTERFACE_VERSION__ 0x00040e00
// The toolstack's part of the headers.
#define __XEN_TOOLS__ 1

#include <stdint.h>
#include <stddef.h>
#include <stdio.h>

#include <xen/xen.h>
#include <xen/domctl.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/sysctl.h>
#include <xen/version.h>

#include <xencall.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>
#include <xentoollog.h>

// xtl_log is variadic. Says one line, already put together.
void causeway_xtl_say(xentoollog_logger *logger, int error, const char *context, const char *line);
// What the libraries make for themselves where they are given none; stderr, from XTL_PROGRESS on. NULL without memory.
xentoollog_logger *causeway_xtl_default(void);

// xentoolcore's list of open handles, which xentoolcore_restrict_all goes through; its header is not installed. The record
// calls `restricting` with `owner` and a domain; 0, or -1 with errno.
typedef int causeway_restricting(void *owner, uint16_t domain);
void *causeway_register_handle(causeway_restricting *restricting, void *owner);
void causeway_unregister_handle(void *record);

// epoll is missing from Swift's Glibc module. Each port is one-shot: told of once, and again when it is asked for anew.
int causeway_epoll_create(int close_on_exec);
int causeway_epoll_add(int epoll, int descriptor, uint32_t port);
int causeway_epoll_again(int epoll, int descriptor, uint32_t port);
int causeway_epoll_remove(int epoll, int descriptor);
// The next port, waiting for one or not; -1 with errno, EAGAIN if there is none.
long causeway_epoll_next(int epoll, int wait);
int causeway_is_nonblocking(int descriptor);

// mremap is variadic. With an old size of nothing it puts the same pages of a shared mapping elsewhere, too: over `length` bytes of
// what is mapped at `at`. 0, or -1 with errno.
int causeway_duplicate_pages(void *from, void *at, size_t length);
// A page of zeros that a forked child finds as zeros whatever its parent wrote; NULL with errno.
uint32_t *causeway_fork_mark(void);

#endif
