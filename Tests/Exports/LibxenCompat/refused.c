// What the four libraries' opens say where there is nothing to open; with `wait`, what calls say once the host is dead; with `again`,
// that a handle opened after another host took the dead one's place leads to the new one, and that the environment says as what domain.
#define _GNU_SOURCE
#include "contracts.h"

// A signal says when the host was killed, or is another.
static void wait_for_signal(const char *word)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    printf("%s\n", word);
    fflush(stdout);
    int signal;
    sigwait(&set, &signal);
}

static int open_again(void)
{
    xenevtchn_handle *old = xenevtchn_open(NULL, 0);
    int stale = xenevtchn_bind_unbound_port(old, 1);
    wait_for_signal("open");
    xenevtchn_handle *served = xenevtchn_open(NULL, 0);
    int port = xenevtchn_bind_unbound_port(served, 1);
    // As domain 1, beside the handles that are domain 0's.
    setenv("CAUSEWAY_DOMAIN", "1", 1);
    xenevtchn_handle *guest = xenevtchn_open(NULL, 0);
    int bound = xenevtchn_bind_interdomain(guest, 0, port);
    if (stale < 1 || port < 1 || bound < 1 || xenevtchn_notify(guest, bound) || xenevtchn_pending(served) != port)
        return 1;
    printf("rung\n");
    return xenevtchn_close(old) | xenevtchn_close(served) | xenevtchn_close(guest);
}

int main(int count, char **words)
{
    if (count == 1) {
        const char *names[4];
        names[0] = xengnttab_open(NULL, 0) ? "open" : strerrorname_np(errno);
        names[1] = xenevtchn_open(NULL, 0) ? "open" : strerrorname_np(errno);
        names[2] = xenforeignmemory_open(NULL, 0) ? "open" : strerrorname_np(errno);
        names[3] = xencall_open(NULL, 0) ? "open" : strerrorname_np(errno);
        printf("%s %s %s %s\n", names[0], names[1], names[2], names[3]);
        return 0;
    }
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (strcmp(words[1], "again") == 0)
        return open_again();
    xengnttab_handle *grants = xengnttab_open(NULL, 0);
    xengntshr_handle *shares = xengntshr_open(NULL, 0);
    xenevtchn_handle *channel = xenevtchn_open(NULL, 0);
    int port = xenevtchn_bind_unbound_port(channel, 1);
    uint32_t reference;
    unsigned char *page = xengntshr_share_pages(shares, 1, 1, &reference, 1);
    if (!grants || !shares || port < 1 || !page)
        return 1;
    wait_for_signal("open");
    // Pages stay; rings go nowhere; the rest fails.
    page[0] = 1;
    if (xenevtchn_notify(channel, port) != 0)
        return 2;
    errno = 0;
    printf("%s ", xengnttab_map_grant_ref(grants, 1, 8, PROT_READ) ? "mapped" : strerrorname_np(errno));
    printf("%s ", xengntshr_share_pages(shares, 1, 1, &reference, 1) ? "shared" : strerrorname_np(errno));
    printf("%s\n", xenevtchn_bind_unbound_port(channel, 1) > 0 ? "bound" : strerrorname_np(errno));
    fcntl(xenevtchn_fd(channel), F_SETFL, O_NONBLOCK);
    if (xenevtchn_pending(channel) != -1 || errno != EAGAIN)
        return 3;
    xengntshr_unshare(shares, page, 1);
    xenevtchn_close(channel);
    xengntshr_close(shares);
    return xengnttab_close(grants);
}
