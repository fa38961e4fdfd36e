#include "CXenControl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// The toolstack's part of the public headers.
#define __XEN_TOOLS__ 1
#include <xen/xen.h>
#include <xen/domctl.h>
#include <xen/memory.h>

#include <xencall.h>
#include <xenforeignmemory.h>
#include <xentoollog.h>

struct cxc {
    xentoollog_logger *logger;
    xencall_handle *calls;
    xenforeignmemory_handle *memory;
    // Memory that the hypervisor may write during a call.
    struct xen_domctl *request;
};

int cxc_open(struct cxc **connection)
{
    // Asked first, since the library tries several names and reports the last one's error.
    if (access("/dev/xen/privcmd", F_OK) != 0 && access("/proc/xen/privcmd", F_OK) != 0)
        return -ENXIO;
    struct cxc *made = calloc(1, sizeof *made);
    if (!made)
        return -ENOMEM;
    // The libraries would print what the caller reports.
    made->logger = (xentoollog_logger *)xtl_createlogger_stdiostream(stderr, XTL_CRITICAL, 0);
    if (made->logger)
        made->calls = xencall_open(made->logger, 0);
    if (made->calls)
        made->request = xencall_alloc_buffer(made->calls, sizeof *made->request);
    if (made->request)
        made->memory = xenforeignmemory_open(made->logger, 0);
    if (!made->memory) {
        int error = errno ? errno : ENXIO;
        cxc_close(made);
        return -error;
    }
    *connection = made;
    return 0;
}

void cxc_close(struct cxc *connection)
{
    if (connection->memory)
        xenforeignmemory_close(connection->memory);
    if (connection->request)
        xencall_free_buffer(connection->calls, connection->request);
    if (connection->calls)
        xencall_close(connection->calls);
    if (connection->logger)
        xtl_logger_destroy(connection->logger);
    free(connection);
}

uint32_t cxc_interface_version(void)
{
    return XEN_DOMCTL_INTERFACE_VERSION;
}

// A request of the toolstack's about one domain. Its answer is in connection->request.
static int control(struct cxc *connection, uint32_t command, uint32_t id)
{
    memset(connection->request, 0, sizeof *connection->request);
    connection->request->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    connection->request->cmd = command;
    connection->request->domain = id;
    if (xencall1(connection->calls, __HYPERVISOR_domctl, (uintptr_t)connection->request) >= 0)
        return 0;
    // EACCES means one thing only: the hypervisor's requests have another version.
    return errno == EACCES ? -EPROTONOSUPPORT : -errno;
}

int cxc_domain(struct cxc *connection, uint32_t id, struct cxc_domain *domain)
{
    int result = control(connection, XEN_DOMCTL_getdomaininfo, id);
    if (result != 0)
        return result;
    struct xen_domctl_getdomaininfo info = connection->request->u.getdomaininfo;
    // The answer is the first domain from `id` on.
    if (info.domain != id)
        return -ESRCH;
    unsigned width = sizeof(long);
    bool translated = info.flags & XEN_DOMINF_hvm_guest;
    if (!translated) {
        result = control(connection, XEN_DOMCTL_get_address_size, id);
        if (result != 0)
            return result;
        width = connection->request->u.address_size.size / 8;
    }
    *domain = (struct cxc_domain){
        .id = id,
        .is_auto_translated = translated,
        .is_paused = info.flags & XEN_DOMINF_paused,
        .is_dying = info.flags & XEN_DOMINF_dying,
        .pages = info.tot_pages,
        .shared_info_frame = info.shared_info_frame,
        .guest_width = width,
    };
    return 0;
}

int cxc_pause(struct cxc *connection, uint32_t id)
{
    return control(connection, XEN_DOMCTL_pausedomain, id);
}

int cxc_unpause(struct cxc *connection, uint32_t id)
{
    return control(connection, XEN_DOMCTL_unpausedomain, id);
}

int cxc_maximum_frame(struct cxc *connection, uint64_t *frame)
{
    long most = xencall2L(connection->calls, __HYPERVISOR_memory_op, XENMEM_maximum_ram_page, 0);
    if (most < 0)
        return -errno;
    *frame = most;
    return 0;
}

int cxc_copy_frames(struct cxc *connection, uint32_t id, const uint64_t *frames, size_t count, void *out, int *errors)
{
    if (count == 0)
        return 0;
    xen_pfn_t *numbers = malloc(count * sizeof *numbers);
    if (!numbers)
        return -ENOMEM;
    for (size_t index = 0; index < count; index++)
        numbers[index] = frames[index];
    // With a place for each error, some pages may fail and the rest be there.
    char *base = xenforeignmemory_map(connection->memory, id, PROT_READ, count, numbers, errors);
    int error = errno;
    free(numbers);
    if (!base)
        return -error;
    for (size_t index = 0; index < count; index++) {
        if (errors[index] > 0)
            errors[index] = -errors[index];
        if (errors[index] == 0)
            memcpy((char *)out + index * 4096, base + index * 4096, 4096);
    }
    xenforeignmemory_unmap(connection->memory, base, count);
    return 0;
}

int cxc_machine_table(struct cxc *connection, uint64_t *extents, size_t *count)
{
    size_t wanted = *count;
    xen_pfn_t *list = xencall_alloc_buffer(connection->calls, (wanted ? wanted : 1) * sizeof *list);
    struct xen_machphys_mfn_list *request = xencall_alloc_buffer(connection->calls, sizeof *request);
    int result = -ENOMEM;
    if (list && request) {
        memset(request, 0, sizeof *request);
        request->max_extents = wanted;
        set_xen_guest_handle(request->extent_start, list);
        result = 0;
        if (xencall2L(connection->calls, __HYPERVISOR_memory_op, XENMEM_machphys_mfn_list, (uintptr_t)request) < 0)
            result = -errno;
    }
    if (result == 0) {
        // What Xen did not fill in is a hole.
        for (size_t index = 0; index < wanted; index++)
            extents[index] = index < request->nr_extents ? list[index] : 0;
        if (request->nr_extents < wanted)
            *count = request->nr_extents;
    }
    if (request)
        xencall_free_buffer(connection->calls, request);
    if (list)
        xencall_free_buffer(connection->calls, list);
    return result;
}

uint32_t cxc_xen_domain(void)
{
    return DOMID_XEN;
}
