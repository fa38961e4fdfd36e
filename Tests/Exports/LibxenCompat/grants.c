// Grants mapped, copied and shared.
#include "contracts.h"

static sigjmp_buf back;
static void fault(int signal)
{
    (void)signal;
    siglongjmp(back, 1);
}

// Whether a store there faults.
static int faults(volatile unsigned char *place)
{
    struct sigaction action = {.sa_handler = fault}, before;
    sigaction(SIGSEGV, &action, &before);
    int faulted = sigsetjmp(back, 1);
    if (!faulted)
        *place = 1;
    sigaction(SIGSEGV, &before, NULL);
    return faulted;
}

void grants(struct peer *peer)
{
    xengnttab_handle *handle = xengnttab_open(counting_logger(), 0);
    CHECK(handle != NULL);
    CHECK(xengnttab_fd(handle) >= 0 && fcntl(xengnttab_fd(handle), F_GETFD) == FD_CLOEXEC);
    CHECK(xengnttab_set_max_grants(handle, 0) == 0 && xengnttab_set_max_grants(handle, UINT32_MAX) == 0);
    uint32_t *writable = peer->offer.writable;

    // Side by side in the order asked for, whatever runs they lie in.
    uint32_t order[] = {writable[2], writable[0], writable[1]};
    unsigned char *pages = xengnttab_map_domain_grant_refs(handle, 3, 1, order, PROT_READ | PROT_WRITE);
    CHECK(pages && pages[1] == 12 && pages[4096 + 1] == 10 && pages[8192 + 1] == 11);
    if (pages)
        pages[4096] = 200;
    CHECK(ask_peer(peer, 'b') == 200);
    uint32_t mixed[] = {writable[0], peer->offer.read_only}, domains[] = {1, 1};
    unsigned char *two = xengnttab_map_grant_refs(handle, 2, domains, mixed, PROT_READ);
    CHECK(two && two[0] == 200 && two[4096 + 1] == 77);
    CHECK(two && faults(two) && faults(two + 4096));
    CHECK(xengnttab_unmap(handle, two, 2) == 0);
    // A writer may say that it writes and nothing else.
    unsigned char *one = xengnttab_map_grant_ref(handle, 1, writable[3], PROT_WRITE);
    CHECK(one && one[1] == 13 && !faults(one));

    lines_logged = 0;
    NOTHING(xengnttab_map_grant_ref(handle, 1, peer->offer.read_only, PROT_READ | PROT_WRITE), EINVAL);
    CHECK(lines_logged == 1);
    NOTHING(xengnttab_map_grant_ref(handle, 1, 99999, PROT_READ), EINVAL);
    NOTHING(xengnttab_map_grant_ref(handle, 1, 0, PROT_READ), EINVAL);
    NOTHING(xengnttab_map_grant_ref(handle, 77, writable[0], PROT_READ), EINVAL);
    NOTHING(xengnttab_map_grant_ref(handle, UINT32_MAX, writable[0], PROT_READ), EINVAL);
    uint32_t bad[] = {writable[0], writable[1], 99999};
    NOTHING(xengnttab_map_domain_grant_refs(handle, 3, 1, bad, PROT_READ), EINVAL);
    NOTHING(xengnttab_map_domain_grant_refs(handle, 0, 1, bad, PROT_READ), EINVAL);
    static uint32_t many[65537];
    NOTHING(xengnttab_map_domain_grant_refs(handle, 65537, 1, many, PROT_READ), EINVAL);
    // A byte wants a page that may be written, and an event a port of this domain's own process.
    NOTHING(xengnttab_map_grant_ref_notify(handle, 1, peer->offer.read_only, PROT_READ, 5, -1), EINVAL);
    NOTHING(xengnttab_map_grant_ref_notify(handle, 1, writable[0], PROT_READ | PROT_WRITE, -1, 3999), EINVAL);

    FAILS(xengnttab_unmap(handle, pages, 2), EINVAL);
    FAILS(xengnttab_unmap(handle, pages + 4096, 1), EINVAL);
    FAILS(xengnttab_unmap(handle, NULL, 1), EINVAL);
    FAILS(xengnttab_unmap(handle, &handle, 1), EINVAL);
    CHECK(xengnttab_unmap(handle, pages, 3) == 0);
    FAILS(xengnttab_unmap(handle, pages, 3), EINVAL);
    CHECK(faults(pages));
    // The byte is cleared when the mapping ends.
    unsigned char *live = xengnttab_map_grant_ref_notify(handle, 1, writable[0], PROT_READ | PROT_WRITE, 0, -1);
    CHECK(live && live[0] == 200 && ask_peer(peer, 'b') == 200);
    CHECK(xengnttab_unmap(handle, live, 1) == 0 && ask_peer(peer, 'b') == 0);
    CHECK(xengnttab_unmap(handle, one, 1) == 0);

    uint32_t descriptor;
    FAILS(xengnttab_dmabuf_exp_from_refs(handle, 1, 0, 1, writable, &descriptor), ENOTTY);
    FAILS(xengnttab_dmabuf_exp_wait_released(handle, 5, 0), ENOTTY);
    FAILS(xengnttab_dmabuf_imp_to_refs(handle, 1, 5, 1, writable), ENOTTY);
    FAILS(xengnttab_dmabuf_imp_release(handle, 5), ENOTTY);
    CHECK(xengnttab_close(handle) == 0 && xengnttab_close(NULL) == 0);
}

static xengnttab_grant_copy_segment_t to_grant(void *from, uint32_t reference, uint16_t offset, uint16_t length)
{
    xengnttab_grant_copy_segment_t segment = {.len = length, .flags = GNTCOPY_dest_gref, .status = 99};
    segment.source.virt = from;
    segment.dest.foreign.ref = reference;
    segment.dest.foreign.domid = 1;
    segment.dest.foreign.offset = offset;
    return segment;
}

static xengnttab_grant_copy_segment_t from_grant(uint32_t reference, uint16_t offset, void *to, uint16_t length)
{
    xengnttab_grant_copy_segment_t segment = {.len = length, .flags = GNTCOPY_source_gref, .status = 99};
    segment.source.foreign.ref = reference;
    segment.source.foreign.domid = 1;
    segment.source.foreign.offset = offset;
    segment.dest.virt = to;
    return segment;
}

void copies(struct peer *peer)
{
    xengnttab_handle *handle = xengnttab_open(NULL, 0);
    uint32_t *writable = peer->offer.writable;
    CHECK(xengnttab_grant_copy(handle, 0, NULL) == 0);
    unsigned char *buffer = calloc(1, 3 * 4096), *other = calloc(1, 3 * 4096);
    for (int index = 0; index < 3 * 4096; index++)
        buffer[index] = (unsigned char)(index * 7 + index / 4096);
    // Local ends that lie across pages, there and back, and from one grant to another.
    xengnttab_grant_copy_segment_t there[] = {to_grant(buffer + 4000, writable[0], 0, 4096), to_grant(buffer + 1, writable[1], 100, 3000)};
    CHECK(xengnttab_grant_copy(handle, 2, there) == 0 && there[0].status == 0 && there[1].status == 0);
    xengnttab_grant_copy_segment_t across = from_grant(writable[0], 0, NULL, 4096);
    across.flags |= GNTCOPY_dest_gref;
    across.dest.foreign.ref = writable[2];
    across.dest.foreign.domid = 1;
    across.dest.foreign.offset = 0;
    CHECK(xengnttab_grant_copy(handle, 1, &across) == 0 && across.status == 0);
    xengnttab_grant_copy_segment_t back_again[] = {from_grant(writable[2], 0, other + 4000, 4096), from_grant(writable[1], 100, other + 1, 3000)};
    CHECK(xengnttab_grant_copy(handle, 2, back_again) == 0 && back_again[0].status == 0 && back_again[1].status == 0);
    CHECK(memcmp(buffer + 4000, other + 4000, 4096) == 0 && memcmp(buffer + 1, other + 1, 3000) == 0);

    // Each has its own status; the rest is copied.
    memset(other, 0, 4096);
    xengnttab_grant_copy_segment_t some[] = {
        from_grant(99999, 0, other, 8), from_grant(writable[1], 100, other, 3000), to_grant(buffer, peer->offer.read_only, 0, 8),
        from_grant(peer->offer.read_only, 1, other + 4000, 1),
    };
    some[0].source.foreign.domid = 1;
    CHECK(xengnttab_grant_copy(handle, 4, some) == 0);
    CHECK(some[0].status == GNTST_bad_gntref && some[1].status == GNTST_okay && some[2].status < 0 && some[3].status == GNTST_okay);
    CHECK(memcmp(buffer + 1, other, 3000) == 0 && other[4000] == 77);
    some[0].source.foreign.domid = 77;
    CHECK(xengnttab_grant_copy(handle, 1, some) == 0 && some[0].status == GNTST_bad_domain);

    xengnttab_grant_copy_segment_t local = {.len = 8};
    local.source.virt = buffer;
    local.dest.virt = other;
    FAILS(xengnttab_grant_copy(handle, 1, &local), EINVAL);
    xengnttab_grant_copy_segment_t past = from_grant(writable[0], 4090, other, 7);
    FAILS(xengnttab_grant_copy(handle, 1, &past), EINVAL);
    past = to_grant(buffer, writable[0], 1, 4096);
    FAILS(xengnttab_grant_copy(handle, 1, &past), EINVAL);
    // Batches beyond a message.
    enum { many = 3000 };
    xengnttab_grant_copy_segment_t *batch = calloc(many, sizeof *batch);
    for (int index = 0; index < many; index++)
        batch[index] = from_grant(writable[index % 3], 0, other + index, 1);
    CHECK(xengnttab_grant_copy(handle, many, batch) == 0);
    for (int index = 0; index < many; index++)
        CHECK(batch[index].status == 0);
    free(batch);
    free(buffer);
    free(other);
    CHECK(xengnttab_close(handle) == 0);
}

void shares(void)
{
    xengntshr_handle *handle = xengntshr_open(counting_logger(), 0);
    CHECK(handle != NULL && xengntshr_fd(handle) >= 0);
    uint32_t references[64] = {0};
    unsigned char *pages = xengntshr_share_pages(handle, 1, 64, references, 1);
    CHECK(pages && pages[0] == 0 && pages[64 * 4096 - 1] == 0);
    for (int index = 0; index < 64; index++)
        CHECK(references[index] >= 8 && (index == 0 || references[index] != references[index - 1]));
    lines_logged = 0;
    NOTHING(xengntshr_share_pages(handle, 1, 1 << 24, references, 1), ENOSPC);
    CHECK(lines_logged == 1);
    NOTHING(xengntshr_share_pages(handle, 1, 0, references, 1), EINVAL);
    NOTHING(xengntshr_share_page_notify(handle, 1, references + 1, 1, -1, 3999), EINVAL);
    uint32_t reference;
    unsigned char *live = xengntshr_share_page_notify(handle, 1, &reference, 0, 17, -1);
    CHECK(live && reference >= 8);
    if (live)
        live[17] = 1;
    CHECK(xengntshr_unshare(handle, live, 1) == 0);
    CHECK(xengntshr_unshare(handle, pages, 64) == 0);
    FAILS(xengntshr_unshare(handle, pages + 1, 1), EINVAL);
    CHECK(xengntshr_close(handle) == 0);
}
