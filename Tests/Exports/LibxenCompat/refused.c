// What the four libraries' opens say where there is nothing to open; with `wait`, what calls say once the host is dead.
#define _GNU_SOURCE
#include "contracts.h"

int main(int count, char **words)
{
    (void)words;
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
    xengnttab_handle *grants = xengnttab_open(NULL, 0);
    xengntshr_handle *shares = xengntshr_open(NULL, 0);
    xenevtchn_handle *channel = xenevtchn_open(NULL, 0);
    int port = xenevtchn_bind_unbound_port(channel, 1);
    uint32_t reference;
    unsigned char *page = xengntshr_share_pages(shares, 1, 1, &reference, 1);
    if (!grants || !shares || port < 1 || !page)
        return 1;
    printf("open\n");
    fflush(stdout);
    int signal;
    sigwait(&set, &signal);
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
