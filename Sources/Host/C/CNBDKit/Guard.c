// nbdkit before 1.33.10 ends when a client hangs up with several requests in flight: one of the connection's workers marks the socket as closed
// under another that is about to answer, whose assertion fails (RHBZ 2173054). The fault is one connection's, and so is the damage here: the
// worker that would end the process stays where it is. Its connection is never freed, so a process that has lost some ends as soon as no other
// client is left, and whoever started it starts the next one.

#define _GNU_SOURCE
#include "Guard.h"

#include <execinfo.h>
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

// More than so many connections that are lost and not freed are too many threads.
#define MOST_LOST 64

static uintptr_t server_begin, server_end;
static uintptr_t own_begin, own_end;
static struct sigaction earlier;
static atomic_int connections, lost;
static sem_t news;
static pthread_key_t thread_end;

static int find_objects(struct dl_phdr_info *object, size_t size, void *count)
{
    uintptr_t begin = UINTPTR_MAX, end = 0;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type != PT_LOAD)
            continue;
        uintptr_t start = object->dlpi_addr + part->p_vaddr;
        if (start < begin)
            begin = start;
        if (start + part->p_memsz > end)
            end = start + part->p_memsz;
    }
    // The first is the program itself.
    if ((*(int *)count)++ == 0) {
        server_begin = begin;
        server_end = end;
    }
    uintptr_t here = (uintptr_t)&find_objects;
    if (here >= begin && here < end) {
        own_begin = begin;
        own_end = end;
    }
    return 0;
}

// Whether the abort that this thread is in was the server's own: it, and nothing of ours, called it.
static int server_aborts(void)
{
    void *frames[24];
    int count = backtrace(frames, 24);
    // The first two are here.
    for (int i = 2; i < count; i++) {
        uintptr_t frame = (uintptr_t)frames[i];
        if (frame >= own_begin && frame < own_end)
            return 0;
        if (frame >= server_begin && frame < server_end)
            return 1;
    }
    return 0;
}

static void aborted(int number, siginfo_t *information, void *context)
{
    if (!server_aborts() || atomic_load(&connections) == 0) {
        // As if nobody had been here: the earlier handler, or the end.
        sigaction(SIGABRT, &earlier, NULL);
        if (earlier.sa_flags & SA_SIGINFO)
            earlier.sa_sigaction(number, information, context);
        else if (earlier.sa_handler != SIG_DFL && earlier.sa_handler != SIG_IGN)
            earlier.sa_handler(number);
        return;
    }
    static const char line[] =
        "causeway: frontend: nbdkit fell over a client that hung up (RHBZ 2173054): its connection is lost, the others go on\n";
    if (write(STDERR_FILENO, line, sizeof line - 1) < 0) {}
    if (atomic_fetch_add(&lost, 1) + 1 > MOST_LOST)
        _exit(1);
    sem_post(&news);
    sigset_t none;
    sigfillset(&none);
    for (;;)
        sigsuspend(&none);
}

static void *watch(void *unused)
{
    while (sem_wait(&news) != 0) {}
    // A client may have been accepted and not have a thread yet: it has to be quiet for a while.
    for (int quiet = 0; quiet < 10;) {
        usleep(20000);
        quiet = atomic_load(&connections) <= atomic_load(&lost) ? quiet + 1 : 0;
    }
    _exit(1);
}

static void disconnected(void *unused)
{
    atomic_fetch_sub(&connections, 1);
}

void causeway_guard_begin(void)
{
    int count = 0;
    dl_iterate_phdr(find_objects, &count);
    // The first call loads what it needs, which a handler had better not.
    void *frame;
    backtrace(&frame, 1);
    sem_init(&news, 0, 0);
    pthread_key_create(&thread_end, disconnected);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = aborted;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    sigaction(SIGABRT, &action, &earlier);
}

void causeway_guard_watch(void)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pthread_t thread;
    if (pthread_create(&thread, NULL, watch, NULL) == 0)
        pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void causeway_guard_connected(void)
{
    atomic_fetch_add(&connections, 1);
    pthread_setspecific(thread_end, (void *)1);
}
