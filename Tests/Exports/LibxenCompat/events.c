// Event channels, what restricts a handle, and a peer that is gone.
#include "contracts.h"

static int readable(int descriptor, int milliseconds)
{
    struct pollfd entry = {.fd = descriptor, .events = POLLIN};
    return poll(&entry, 1, milliseconds) == 1;
}

void events(struct peer *peer)
{
    xenevtchn_handle *handle = xenevtchn_open(counting_logger(), 0), *other = xenevtchn_open(counting_logger(), XENEVTCHN_NO_CLOEXEC);
    CHECK(handle && other);
    NOTHING(xenevtchn_open(counting_logger(), 2), EINVAL);
    NOTHING(xenevtchn_fdopen(NULL, 0, 0), EINVAL);
    int descriptor = xenevtchn_fd(handle);
    CHECK(fcntl(descriptor, F_GETFD) == FD_CLOEXEC && fcntl(xenevtchn_fd(other), F_GETFD) == 0);
    FAILS(xenevtchn_bind_interdomain(handle, 1, 3999), EINVAL);
    FAILS(xenevtchn_bind_interdomain(handle, 77, 1), ESRCH);
    FAILS(xenevtchn_bind_interdomain(handle, UINT32_MAX, 1), ESRCH);
    CHECK(fcntl(descriptor, F_SETFL, O_NONBLOCK) == 0);
    FAILS(xenevtchn_pending(handle), EAGAIN);
    CHECK(!readable(descriptor, 0));

    int port = xenevtchn_bind_interdomain(handle, 1, peer->offer.port);
    CHECK(port >= 1);
    FAILS(xenevtchn_bind_interdomain(other, 1, peer->offer.port), EINVAL);
    // Pending at once; masked by being told of; asked for anew by unmasking.
    CHECK(readable(descriptor, 1000) && xenevtchn_pending(handle) == port);
    FAILS(xenevtchn_pending(handle), EAGAIN);
    for (int time = 0; time < 3; time++)
        CHECK(ask_peer(peer, 'n') == 1);
    CHECK(!readable(descriptor, 50));
    CHECK(xenevtchn_unmask(handle, port) == 0 && readable(descriptor, 1000) && xenevtchn_pending(handle) == port);
    CHECK(xenevtchn_unmask(handle, port) == 0 && !readable(descriptor, 50));
    // One that is not masked, or not of this handle, is passed over.
    CHECK(xenevtchn_unmask(handle, port) == 0 && xenevtchn_unmask(handle, 3999) == 0 && xenevtchn_unmask(other, port) == 0);
    CHECK(xenevtchn_notify(handle, port) == 0 && ask_peer(peer, 'w') == 1);
    FAILS(xenevtchn_notify(other, port), ENOTCONN);
    FAILS(xenevtchn_notify(handle, 3999), ENOTCONN);
    FAILS(xenevtchn_unbind(other, port), ENOTCONN);
    FAILS(xenevtchn_unbind(handle, 1 << 17), EINVAL);
    // Without O_NONBLOCK it waits.
    CHECK(fcntl(descriptor, F_SETFL, 0) == 0);
    pid_t ringer = fork();
    if (ringer == 0) {
        usleep(50000);
        char command = 'n';
        _exit(write(peer->to, &command, 1) == 1 ? 0 : 1);
    }
    CHECK(xenevtchn_pending(handle) == port && xenevtchn_unmask(handle, port) == 0);
    unsigned char answer;
    CHECK(read(peer->from, &answer, 1) == 1);
    waitpid(ringer, NULL, 0);

    // Two handles, each with its own ports.
    int mine = xenevtchn_bind_unbound_port(other, 1);
    CHECK(mine >= 1 && mine != port && xenevtchn_notify(other, mine) == 0);
    FAILS(xenevtchn_notify(handle, mine), ENOTCONN);
    int exception = xenevtchn_bind_virq(other, 3);
    CHECK(exception >= 1 && exception != mine && exception != port);
    FAILS(xenevtchn_bind_virq(handle, 3), EEXIST);
    FAILS(xenevtchn_bind_virq(handle, 24), EINVAL);
    CHECK(xenevtchn_unbind(other, exception) == 0);
    CHECK(xenevtchn_close(other) == 0);
    CHECK(xenevtchn_unbind(handle, port) == 0);
    FAILS(xenevtchn_unbind(handle, port), ENOTCONN);
    // The other end waits for this domain again, and hears of what it missed.
    CHECK(ask_peer(peer, 'w') == 1);
    port = xenevtchn_bind_interdomain(handle, 1, peer->offer.port);
    CHECK(port >= 1 && xenevtchn_pending(handle) == port);
    CHECK(xenevtchn_close(handle) == 0 && xenevtchn_close(NULL) == 0);
    CHECK(ask_peer(peer, 'w') == 1);
}

void restrictions(struct peer *peer)
{
    xenevtchn_handle *channel = xenevtchn_open(counting_logger(), 0);
    FAILS(xenevtchn_restrict(channel, 0), EINVAL);
    CHECK(xenevtchn_restrict(channel, 1) == 0);
    FAILS(xenevtchn_restrict(channel, 1), EACCES);
    FAILS(xenevtchn_bind_unbound_port(channel, 2), EACCES);
    FAILS(xenevtchn_bind_virq(channel, 3), EACCES);
    int port = xenevtchn_bind_interdomain(channel, 1, peer->offer.port);
    CHECK(port >= 1);
    CHECK(xenevtchn_close(channel) == 0);
    CHECK(ask_peer(peer, 'w') == 1);

    // QEMU's -xen-domid-restrict: what is open then is restricted, or of no use.
    channel = xenevtchn_open(counting_logger(), 0);
    xengnttab_handle *grants = xengnttab_open(counting_logger(), 0);
    xenforeignmemory_handle *memory = xenforeignmemory_open(counting_logger(), 0);
    xencall_handle *calls = xencall_open(counting_logger(), 0);
    CHECK(xentoolcore_restrict_all(1) == 0);
    FAILS(xenevtchn_bind_unbound_port(channel, 2), EACCES);
    NOTHING(xengnttab_map_grant_ref(grants, 1, peer->offer.writable[0], PROT_READ), ENOTTY);
    xen_pfn_t frame = 1;
    NOTHING(xenforeignmemory_map(memory, 2, PROT_READ, 1, &frame, NULL), EPERM);
    FAILS(xencall2(calls, __HYPERVISOR_xen_version, XENVER_version, 0), ENOTTY);
    // Those that are opened afterwards are not.
    xengnttab_handle *later = xengnttab_open(counting_logger(), 0);
    void *page = xengnttab_map_grant_ref(later, 1, peer->offer.writable[0], PROT_READ);
    CHECK(page && xengnttab_unmap(later, page, 1) == 0 && xengnttab_close(later) == 0);
    CHECK(xenevtchn_close(channel) == 0 && xengnttab_close(grants) == 0 && xenforeignmemory_close(memory) == 0 && xencall_close(calls) == 0);
}

void foreign(void)
{
    xenforeignmemory_handle *handle = xenforeignmemory_open(counting_logger(), 0);
    CHECK(handle != NULL);
    xen_pfn_t frames[] = {0x7FFFFFFF, (xen_pfn_t)1 << 40};
    int errors[2] = {1, 1};
    NOTHING(xenforeignmemory_map(handle, 1, PROT_READ, 2, frames, NULL), EINVAL);
    NOTHING(xenforeignmemory_map(handle, 77, PROT_READ, 2, frames, NULL), ESRCH);
    NOTHING(xenforeignmemory_map(handle, 1, PROT_READ, 0, frames, NULL), EINVAL);
    void *holes = xenforeignmemory_map(handle, 1, PROT_READ, 2, frames, errors);
    CHECK(holes && errors[0] == -EINVAL && errors[1] == -EINVAL);
    CHECK(xenforeignmemory_unmap(handle, holes, 2) == 0);
    void *address = NULL;
    NOTHING(xenforeignmemory_map_resource(handle, 1, 0, 0, 0, 1, &address, PROT_READ, 0), EOPNOTSUPP);
    size_t size;
    FAILS(xenforeignmemory_resource_size(handle, 1, 0, 0, &size), EOPNOTSUPP);
    CHECK(xenforeignmemory_restrict(handle, 1) == 0 && xenforeignmemory_restrict(handle, 1) == 0);
    FAILS(xenforeignmemory_restrict(handle, 2), EINVAL);
    NOTHING(xenforeignmemory_map(handle, 2, PROT_READ, 1, frames, NULL), EPERM);
    CHECK(xenforeignmemory_close(handle) == 0);
}

void calls(void)
{
    xencall_handle *handle = xencall_open(counting_logger(), 0);
    CHECK(handle && xencall_buffers_never_fault(handle) == 1 && xencall_fd(handle) >= 0);
    CHECK(xencall2(handle, __HYPERVISOR_xen_version, XENVER_version, 0) == (4 << 16 | 17));
    CHECK(xencall2L(handle, __HYPERVISOR_xen_version, XENVER_pagesize, 0) == 4096);
    FAILS(xencall0(handle, 63), ENOSYS);
    FAILS(xencall5(handle, __HYPERVISOR_xsm_op, 0, 0, 0, 0, 0), ENOSYS);
    struct xen_domctl *request = xencall_alloc_buffer(handle, sizeof *request);
    CHECK(request && request->cmd == 0);
    request->cmd = XEN_DOMCTL_getdomaininfo;
    request->domain = 1;
    request->interface_version = XEN_DOMCTL_INTERFACE_VERSION + 7;
    FAILS(xencall1(handle, __HYPERVISOR_domctl, (uintptr_t)request), EACCES);
    request->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    CHECK(xencall1(handle, __HYPERVISOR_domctl, (uintptr_t)request) == 0 && request->u.getdomaininfo.domain == 1);
    CHECK(request->u.getdomaininfo.flags & XEN_DOMINF_running);
    // The first from there on; none is how a list ends.
    request->domain = 0x7000;
    FAILS(xencall1(handle, __HYPERVISOR_domctl, (uintptr_t)request), ESRCH);
    FAILS(xencall1(handle, __HYPERVISOR_domctl, 0), EFAULT);
    xencall_free_buffer(handle, request);
    unsigned char *pages = xencall_alloc_buffer_pages(handle, 3);
    CHECK(pages && pages[0] == 0 && pages[3 * 4096 - 1] == 0 && ((uintptr_t)pages & 4095) == 0);
    xencall_free_buffer_pages(handle, pages, 3);
    xencall_free_buffer(handle, NULL);
    CHECK(xencall_close(handle) == 0);
}

// A program that has decided nothing about SIGPIPE lives when it rings a peer that was killed.
void broken_pipes(const char *self)
{
    struct peer peer = start_peer(self);
    xenevtchn_handle *handle = xenevtchn_open(NULL, 0);
    int port = xenevtchn_bind_interdomain(handle, 1, peer.offer.port);
    CHECK(port >= 1 && xenevtchn_notify(handle, port) == 0);
    end_peer(&peer, SIGKILL);
    struct sigaction action;
    for (int time = 0; time < 10000; time++)
        CHECK(xenevtchn_notify(handle, port) == 0);
    sigset_t pending;
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 0);
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    CHECK(xenevtchn_close(handle) == 0);
}
