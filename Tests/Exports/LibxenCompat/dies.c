// A domain's process that goes so far and then waits to be killed: `dies offer PEER STEPS` prints a reference and a port; `dies take
// PEER STEPS REFERENCE PORT` maps and binds those. What a step cannot have, because the other side did not go so far, it does without.
#include "contracts.h"

static void offer(int peer, int steps)
{
    xenevtchn_handle *channel = xenevtchn_open(NULL, 0);
    xengntshr_handle *shares = xengntshr_open(NULL, 0);
    uint32_t reference = 0, references[16];
    int port = 0;
    unsigned char *page = NULL;
    if (steps >= 1)
        port = xenevtchn_bind_unbound_port(channel, peer);
    if (steps >= 2)
        page = xengntshr_share_page_notify(shares, peer, &reference, 1, 17, port);
    if (steps >= 3 && !xengntshr_share_pages(shares, peer, 16, references, 0))
        exit(1);
    if (steps >= 4 && !xengntshr_share_page_notify(shares, peer, references, 1, 4095, port))
        exit(2);
    if (port < 1 || (steps >= 2 && !page))
        exit(3);
    if (page)
        page[17] = 1;
    // Given up while the other side may have it, with its notice.
    if (steps >= 5)
        xenevtchn_unbind(channel, port);
    printf("%u %d\n", reference, port);
}

static void take(int peer, int steps, uint32_t reference, int remote)
{
    xenevtchn_handle *channel = xenevtchn_open(NULL, 0);
    xengnttab_handle *grants = xengnttab_open(NULL, 0);
    void *page = NULL;
    unsigned char bytes[64];
    int port = steps >= 1 ? xenevtchn_bind_interdomain(channel, peer, remote) : -1;
    uint32_t number = port < 1 ? UINT32_MAX : (uint32_t)port;
    if (steps >= 2)
        page = xengnttab_map_grant_ref_notify(grants, peer, reference, PROT_READ | PROT_WRITE, 17, number);
    if (steps >= 3)
        xengnttab_map_grant_ref_notify(grants, peer, reference, PROT_READ, UINT32_MAX, number);
    if (steps >= 4) {
        xengnttab_grant_copy_segment_t segment = {0};
        segment.source.foreign.ref = reference;
        segment.source.foreign.domid = peer;
        segment.dest.virt = bytes;
        segment.len = sizeof bytes;
        segment.flags = GNTCOPY_source_gref;
        xengnttab_grant_copy(grants, 1, &segment);
    }
    if (steps >= 5 && page)
        xengnttab_unmap(grants, page, 1);
    if (steps >= 6 && port > 0)
        xenevtchn_unbind(channel, port);
    printf("there\n");
}

int main(int count, char **words)
{
    // What is refused is no news here.
    if (!freopen("/dev/null", "w", stderr))
        return 4;
    if (count == 4 && strcmp(words[1], "offer") == 0)
        offer(atoi(words[2]), atoi(words[3]));
    else if (count == 6)
        take(atoi(words[2]), atoi(words[3]), strtoul(words[4], NULL, 10), atoi(words[5]));
    else
        return 5;
    fflush(stdout);
    alarm(60);
    pause();
    return 0;
}
