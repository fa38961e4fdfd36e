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

static struct cxc *connections[16];

// The connection of that number; NULL if there is none.
static struct cxc *named(int number)
{
    if (number < 0 || number >= (int)(sizeof connections / sizeof *connections))
        return NULL;
    return __atomic_load_n(&connections[number], __ATOMIC_ACQUIRE);
}

static void end(struct cxc *connection)
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

int cxc_open(void)
{
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
    int error = made->memory ? EMFILE : errno ? errno : ENXIO;
    // The library tries several names and reports the last one's error. Asked afterwards, since it may be one that knows a hypervisor
    // without devices.
    if (!made->calls && access("/dev/xen/privcmd", F_OK) != 0 && access("/proc/xen/privcmd", F_OK) != 0)
        error = ENXIO;
    for (size_t place = 0; made->memory && place < sizeof connections / sizeof *connections; place++) {
        struct cxc *none = NULL;
        if (__atomic_compare_exchange_n(&connections[place], &none, made, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return place;
    }
    end(made);
    return -error;
}

void cxc_close(int number)
{
    struct cxc *connection = named(number);
    if (!connection)
        return;
    __atomic_store_n(&connections[number], NULL, __ATOMIC_RELEASE);
    end(connection);
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

struct cxc_domain cxc_facts(int number, uint32_t id)
{
    struct cxc_domain domain = {.error = -EBADF};
    struct cxc *connection = named(number);
    if (!connection)
        return domain;
    domain.error = control(connection, XEN_DOMCTL_getdomaininfo, id);
    if (domain.error != 0)
        return domain;
    struct xen_domctl_getdomaininfo info = connection->request->u.getdomaininfo;
    // The answer is the first domain from `id` on.
    if (info.domain != id) {
        domain.error = -ESRCH;
        return domain;
    }
    unsigned width = sizeof(long);
    bool translated = info.flags & XEN_DOMINF_hvm_guest;
    if (!translated) {
        domain.error = control(connection, XEN_DOMCTL_get_address_size, id);
        if (domain.error != 0)
            return domain;
        width = connection->request->u.address_size.size / 8;
    }
    return (struct cxc_domain){
        .id = id,
        .is_auto_translated = translated,
        .is_paused = info.flags & XEN_DOMINF_paused,
        .is_dying = info.flags & XEN_DOMINF_dying,
        .pages = info.tot_pages,
        .shared_info_frame = info.shared_info_frame,
        .guest_width = width,
    };
}

int cxc_pause(int number, uint32_t id)
{
    struct cxc *connection = named(number);
    return connection ? control(connection, XEN_DOMCTL_pausedomain, id) : -EBADF;
}

int cxc_unpause(int number, uint32_t id)
{
    struct cxc *connection = named(number);
    return connection ? control(connection, XEN_DOMCTL_unpausedomain, id) : -EBADF;
}

int64_t cxc_maximum_frame(int number)
{
    struct cxc *connection = named(number);
    if (!connection)
        return -EBADF;
    long most = xencall2L(connection->calls, __HYPERVISOR_memory_op, XENMEM_maximum_ram_page, 0);
    return most < 0 ? -errno : most;
}

int cxc_copy_frames(
    int number, uint32_t id, const uint64_t *frames, size_t count, uint8_t *out, size_t size, int *errors, size_t places)
{
    struct cxc *connection = named(number);
    if (!connection)
        return -EBADF;
    if (places != count || size % 4096 != 0 || size / 4096 != count)
        return -EINVAL;
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
            memcpy(out + index * 4096, base + index * 4096, 4096);
    }
    xenforeignmemory_unmap(connection->memory, base, count);
    return 0;
}

int cxc_machine_table(int number, uint64_t *extents, size_t wanted)
{
    struct cxc *connection = named(number);
    if (!connection)
        return -EBADF;
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

uint32_t cxc_own_domain(void)
{
    return DOMID_SELF;
}
