// Xen's public headers, as libxen-dev installs them, for their layouts and constants, and the libraries that reach the kernel's
// grant and event-channel devices.
#ifndef CAUSEWAY_CXEN_SHIM_H
#define CAUSEWAY_CXEN_SHIM_H

// Undefined it is 0, and half the names change; above 0x00041000 the 4.17 headers refuse it.
#define __XEN_INTERFACE_VERSION__ 0x00040e00

#include <stdint.h>
#include <stddef.h>
#include <string.h>

// ring.h wants these from its user; no macro that uses them is imported, so full fences cost nothing.
#define xen_mb() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define xen_rmb() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define xen_wmb() __atomic_thread_fence(__ATOMIC_RELEASE)

#include <xen/xen.h>
#include <xen/grant_table.h>
#include <xen/event_channel.h>
#include <xen/io/ring.h>
#include <xen/io/blkif.h>
#include <xen/io/protocols.h>
#include <xen/io/xs_wire.h>
#include <xen/io/xenbus.h>

#include <stdio.h>
#include <xentoollog.h>
#include <xengnttab.h>
#include <xenevtchn.h>
#include <xencall.h>

// A logger for the libraries that passes on nothing but the worst; NULL without memory. To be given to xtl_logger_destroy.
static inline struct xentoollog_logger *causeway_quiet_logger(void) {
    return (struct xentoollog_logger *)xtl_createlogger_stdiostream(stderr, XTL_CRITICAL, 0);
}

#endif
