// Many threads, and forks in their midst.
#include "contracts.h"

static struct peer *shared_peer;
static xengnttab_handle *shared_grants;

static void *use(void *number)
{
    uint32_t *writable = shared_peer->offer.writable;
    unsigned own = (unsigned)(uintptr_t)number;
    xenevtchn_handle *channel = xenevtchn_open(NULL, 0);
    CHECK(channel != NULL);
    for (int round = 0; round < 200; round++) {
        uint32_t references[] = {writable[0], writable[1]};
        unsigned char *pages = xengnttab_map_domain_grant_refs(shared_grants, 2, 1, references, PROT_READ | PROT_WRITE);
        CHECK(pages != NULL);
        // A word of each thread's own, and a page that they only read.
        volatile uint32_t *word = (volatile uint32_t *)(pages + 64) + own * 16;
        *word = own + round;
        xengnttab_grant_copy_segment_t segment = {.len = 4, .flags = GNTCOPY_source_gref};
        uint32_t copied = 0;
        segment.source.foreign.ref = writable[0];
        segment.source.foreign.domid = 1;
        segment.source.foreign.offset = 64 + own * 64;
        segment.dest.virt = &copied;
        CHECK(xengnttab_grant_copy(shared_grants, 1, &segment) == 0 && segment.status == 0 && copied == own + round);
        int port = xenevtchn_bind_unbound_port(channel, 1);
        CHECK(port >= 1 && xenevtchn_notify(channel, port) == 0 && xenevtchn_unbind(channel, port) == 0);
        CHECK(xengnttab_unmap(shared_grants, pages, 2) == 0);
    }
    CHECK(xenevtchn_close(channel) == 0);
    return NULL;
}

void threads(struct peer *peer)
{
    enum { count = 8 };
    shared_peer = peer;
    shared_grants = xengnttab_open(NULL, 0);
    pthread_t all[count];
    for (uintptr_t number = 0; number < count; number++)
        CHECK(pthread_create(&all[number], NULL, use, (void *)number) == 0);
    for (int number = 0; number < count; number++)
        pthread_join(all[number], NULL);
    CHECK(xengnttab_close(shared_grants) == 0);
}

// A child may close what it has inherited, and open its own; its parent goes on as if nothing had been.
void forks(struct peer *peer)
{
    xengnttab_handle *grants = xengnttab_open(NULL, 0);
    xenevtchn_handle *channel = xenevtchn_open(NULL, 0);
    unsigned char *page = xengnttab_map_grant_ref(grants, 1, peer->offer.writable[3], PROT_READ | PROT_WRITE);
    int port = xenevtchn_bind_interdomain(channel, 1, peer->offer.port);
    CHECK(page && port >= 1 && xenevtchn_pending(channel) == port && xenevtchn_unmask(channel, port) == 0);
    for (int time = 0; time < 20; time++) {
        pid_t child = fork();
        if (child == 0) {
            failures = 0;
            FAILS(xenevtchn_notify(channel, port), EBADF);
            FAILS(xengnttab_unmap(grants, page, 1), EBADF);
            CHECK(xengnttab_close(grants) == 0 && xenevtchn_close(channel) == 0);
            grants = xengnttab_open(NULL, 0);
            void *own = xengnttab_map_grant_ref(grants, 1, peer->offer.writable[3], PROT_READ);
            CHECK(own && xengnttab_unmap(grants, own, 1) == 0 && xengnttab_close(grants) == 0);
            _exit(failures ? 1 : 0);
        }
        // Meanwhile.
        void *again = xengnttab_map_grant_ref(grants, 1, peer->offer.writable[2], PROT_READ);
        CHECK(again && xengnttab_unmap(grants, again, 1) == 0);
        CHECK(xenevtchn_notify(channel, port) == 0 && ask_peer(peer, 'w') == 1);
        int status = -1;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        CHECK(page[1] == 13 && ask_peer(peer, 'n') == 1 && xenevtchn_pending(channel) == port && xenevtchn_unmask(channel, port) == 0);
    }
    CHECK(xengnttab_unmap(grants, page, 1) == 0 && xengnttab_close(grants) == 0 && xenevtchn_close(channel) == 0);
    CHECK(ask_peer(peer, 'w') == 1);
}
