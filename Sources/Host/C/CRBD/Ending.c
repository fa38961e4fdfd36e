#define _GNU_SOURCE
#include "Table.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t closed = PTHREAD_COND_INITIALIZER;
static int closing;
static int patience;

void causeway_rbd_will_close(void)
{
    pthread_mutex_lock(&lock);
    closing++;
    pthread_mutex_unlock(&lock);
}

void causeway_rbd_did_close(void)
{
    pthread_mutex_lock(&lock);
    closing--;
    pthread_cond_broadcast(&closed);
    pthread_mutex_unlock(&lock);
}

int causeway_rbd_await_closing(int milliseconds)
{
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += milliseconds / 1000;
    end.tv_nsec += milliseconds % 1000 * 1000000L;
    if (end.tv_nsec >= 1000000000L) {
        end.tv_sec++;
        end.tv_nsec -= 1000000000L;
    }
    pthread_mutex_lock(&lock);
    int result = 0;
    while (closing > 0 && result == 0) result = pthread_cond_clockwait(&closed, &lock, CLOCK_MONOTONIC, &end);
    int left = closing;
    pthread_mutex_unlock(&lock);
    return left > 0 ? -ETIMEDOUT : 0;
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
