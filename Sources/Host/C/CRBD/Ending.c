#define _GNU_SOURCE
#include "Table.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static atomic_int closing;
static int patience;

void causeway_rbd_will_close(void) { atomic_fetch_add(&closing, 1); }

void causeway_rbd_did_close(void) { atomic_fetch_sub(&closing, 1); }

// Looked at once a millisecond: it happens once, at a process's end, and needs neither a lock nor a clock.
int causeway_rbd_await_closing(int milliseconds)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    for (int waited = 0; atomic_load(&closing) > 0; waited++) {
        if (waited >= milliseconds) return -ETIMEDOUT;
        nanosleep(&pause, NULL);
    }
    return 0;
}

// Registered behind the library's own handlers, and so run before them.
static void leave(int status, void *argument)
{
    (void)argument;
    causeway_rbd_await_closing(patience);
    fflush(NULL);
    _exit(status);
}

void causeway_rbd_end_with_process(int milliseconds)
{
    patience = milliseconds;
    on_exit(leave, NULL);
}
