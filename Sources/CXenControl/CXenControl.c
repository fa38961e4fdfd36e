#include "CXenControl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xenctrl.h>
#include <xenforeignmemory.h>
#include <xentoollog.h>

struct cxc {
    xentoollog_logger *logger;
    xc_interface *control;
    xenforeignmemory_handle *memory;
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
        made->control = xc_interface_open(made->logger, made->logger, 0);
    if (made->control)
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
    if (connection->control)
        xc_interface_close(connection->control);
    if (connection->logger)
        xtl_logger_destroy(connection->logger);
    free(connection);
}

int cxc_domain(struct cxc *connection, uint32_t id, struct cxc_domain *domain)
{
    xc_domaininfo_t info;
    int found = xc_domain_getinfolist(connection->control, id, 1, &info);
    if (found < 0)
        return -errno;
    // The list begins with the first domain from `id` on.
    if (found == 0 || info.domain != id)
        return -ESRCH;
    unsigned width = sizeof(long);
    bool translated = info.flags & XEN_DOMINF_hvm_guest;
    if (!translated && xc_domain_get_guest_width(connection->control, id, &width) != 0)
        return -errno;
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
    return xc_domain_pause(connection->control, id) == 0 ? 0 : -errno;
}

int cxc_unpause(struct cxc *connection, uint32_t id)
{
    return xc_domain_unpause(connection->control, id) == 0 ? 0 : -errno;
}

int cxc_maximum_frame(struct cxc *connection, uint64_t *frame)
{
    unsigned long most;
    if (xc_maximum_ram_page(connection->control, &most) != 0)
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
    xen_pfn_t *list = calloc(*count ? *count : 1, sizeof *list);
    if (!list)
        return -ENOMEM;
    // The library does not say how many Xen filled in; the rest stay 0, which is a hole.
    int result = xc_machphys_mfn_list(connection->control, *count, list) == 0 ? 0 : -errno;
    for (size_t index = 0; result == 0 && index < *count; index++)
        extents[index] = list[index];
    free(list);
    return result;
}

uint32_t cxc_xen_domain(void)
{
    return DOMID_XEN;
}
