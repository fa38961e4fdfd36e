// Domain 1: offers pages and a port, and does as it is told.
#include "contracts.h"

int failures;
int lines_logged;

static void count(xentoollog_logger *logger, xentoollog_level level, int error, const char *context, const char *format, va_list arguments)
{
    (void)logger; (void)level; (void)error; (void)context; (void)format; (void)arguments;
    __atomic_add_fetch(&lines_logged, 1, __ATOMIC_RELAXED);
}

xentoollog_logger *counting_logger(void)
{
    static xentoollog_logger logger = {.vmessage = count};
    return &logger;
}

struct peer start_peer(const char *self)
{
    int to[2], from[2];
    struct peer peer = {.pid = -1};
    if (pipe(to) < 0 || pipe(from) < 0)
        return peer;
    peer.pid = fork();
    if (peer.pid == 0) {
        dup2(to[0], 0);
        dup2(from[1], 3);
        for (int fd = 4; fd < 64; fd++)
            close(fd);
        setenv("CAUSEWAY_DOMAIN", "1", 1);
        execl(self, self, "peer", NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    peer.to = to[1];
    peer.from = from[0];
    if (read(peer.from, &peer.offer, sizeof peer.offer) != sizeof peer.offer) {
        printf("the peer has not begun\n");
        exit(1);
    }
    return peer;
}

int ask_peer(struct peer *peer, char command)
{
    unsigned char answer = 0;
    if (write(peer->to, &command, 1) != 1 || read(peer->from, &answer, 1) != 1)
        return -1;
    return answer;
}

void end_peer(struct peer *peer, int signal)
{
    if (signal)
        kill(peer->pid, signal);
    else
        ask_peer(peer, 'q');
    waitpid(peer->pid, NULL, 0);
    close(peer->to);
    close(peer->from);
}

int act_as_peer(void)
{
    struct offer offer = {0};
    alarm(180);
    xengntshr_handle *shares = xengntshr_open(NULL, 0);
    xenevtchn_handle *events = xenevtchn_open(NULL, 0);
    if (!shares || !events)
        return 1;
    unsigned char *writable = xengntshr_share_pages(shares, 0, pages_shared, offer.writable, 1);
    unsigned char *read_only = xengntshr_share_pages(shares, 0, 1, &offer.read_only, 0);
    int port = xenevtchn_bind_unbound_port(events, 0);
    if (!writable || !read_only || port < 0)
        return 1;
    // Zeroed, side by side, and ours to write whatever the other may.
    for (int page = 0; page < pages_shared; page++)
        writable[page * 4096 + 1] = 10 + page;
    read_only[1] = 77;
    offer.port = port;
    if (write(3, &offer, sizeof offer) != sizeof offer)
        return 1;
    char command;
    while (read(0, &command, 1) == 1) {
        unsigned char answer = 0;
        switch (command) {
        case 'n': answer = xenevtchn_notify(events, port) == 0; break;
        case 'w': answer = xenevtchn_pending(events) == port && xenevtchn_unmask(events, port) == 0; break;
        case 'b': answer = writable[0]; break;
        case 'q': answer = 1; break;
        }
        if (write(3, &answer, 1) != 1 || command == 'q')
            break;
    }
    xengntshr_unshare(shares, writable, pages_shared);
    xengntshr_unshare(shares, read_only, 1);
    xenevtchn_close(events);
    xengntshr_close(shares);
    return 0;
}
