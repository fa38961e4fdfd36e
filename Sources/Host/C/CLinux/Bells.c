// A write to a full eventfd that blocks ends by a signal only. So each thread that writes says when it is inside, and one thread looks at
// them every 10 ms, as long as anybody writes, and interrupts whoever has not come out since it looked last. A thread that was merely not
// scheduled meanwhile takes no harm: its write is done, or is begun after the signal and seen again.
#define _GNU_SOURCE
#include "Bells.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// Linux ignores it where nobody handles it, and nothing here has urgent data.
enum { signal_number = SIGURG, tick_nanoseconds = 10000000, idle_ticks = 10 };

static _Atomic(struct causeway_bell_writer *) writers;
__thread struct causeway_bell_writer *causeway_bell_own;
_Atomic uint32_t causeway_bells_asleep;
_Atomic uint32_t causeway_bells_fenced;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int is_watched;

static void do_nothing(int number) { (void)number; }

// Whether a writer has moved since the last look, or is inside.
static int look(int interrupts) {
    int moves = 0;
    for (struct causeway_bell_writer *each = atomic_load(&writers); each != NULL; each = each->next) {
        uint32_t turn = atomic_load(&each->turn);
        if (turn != each->seen) {
            each->seen = turn;
            moves = 1;
        } else if (turn & 1) {
            moves = 1;
            if (interrupts) syscall(SYS_tgkill, getpid(), atomic_load(&each->thread), signal_number);
        }
    }
    return moves;
}

static void *watch(void *unused) {
    (void)unused;
    int can_sleep = !atomic_load(&causeway_bells_fenced);
    for (int idle = 0;;) {
        struct timespec tick = {.tv_nsec = tick_nanoseconds};
        nanosleep(&tick, NULL);
        idle = look(1) ? 0 : idle + 1;
        if (idle < idle_ticks || !can_sleep) continue;
        atomic_store(&causeway_bells_asleep, 1);
        // Whoever writes stores its turn and then looks whether this thread sleeps, without a fence: this is the fence.
        syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
        if (look(0)) atomic_store(&causeway_bells_asleep, 0);
        while (atomic_load(&causeway_bells_asleep) == 1) syscall(SYS_futex, &causeway_bells_asleep, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
        idle = 0;
    }
    return NULL;
}

static void leave(void *writer) { atomic_store(&((struct causeway_bell_writer *)writer)->is_taken, 0); }

static void start(void) {
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) != 0) atomic_store(&causeway_bells_fenced, 1);
    struct sigaction action = {.sa_handler = do_nothing};
    sigemptyset(&action.sa_mask);
    if (sigaction(signal_number, &action, NULL) < 0 || pthread_key_create(&key, leave) != 0) return;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pthread_t thread;
    if (pthread_create(&thread, NULL, watch, NULL) == 0) {
        pthread_setname_np(thread, "bells");
        pthread_detach(thread);
        is_watched = 1;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

struct causeway_bell_writer *causeway_bells_join(void) {
    pthread_once(&once, start);
    if (!is_watched) return NULL;
    struct causeway_bell_writer *writer = atomic_load(&writers);
    for (; writer != NULL; writer = writer->next) {
        int none = 0;
        if (atomic_compare_exchange_strong(&writer->is_taken, &none, 1)) break;
    }
    int is_new = writer == NULL;
    if (is_new) {
        writer = calloc(1, sizeof *writer);
        if (writer == NULL) return NULL;
        atomic_store(&writer->is_taken, 1);
    }
    atomic_store(&writer->thread, (int)syscall(SYS_gettid));
    if (is_new) {
        struct causeway_bell_writer *first = atomic_load(&writers);
        do writer->next = first; while (!atomic_compare_exchange_weak(&writers, &first, writer));
    }
    if (pthread_setspecific(key, writer) != 0) {
        leave(writer);
        return NULL;
    }
    // Threads may begin with every signal blocked.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal_number);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    causeway_bell_own = writer;
    return writer;
}

static void make_non_blocking(int descriptor) {
    int flags = fcntl(descriptor, F_GETFL);
    if (flags >= 0) fcntl(descriptor, F_SETFL, flags | O_NONBLOCK);
}

void causeway_bells_wake(void) {
    if (atomic_exchange(&causeway_bells_asleep, 0)) syscall(SYS_futex, &causeway_bells_asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

int causeway_bells_write(int descriptor, uint64_t count) {
    if (write(descriptor, &count, sizeof count) == sizeof count) return causeway_bell_told;
    if (errno != EINTR) return causeway_bell_full;
    make_non_blocking(descriptor);
    return causeway_bell_blocked;
}

int causeway_ring_bell(int descriptor, uint64_t count) {
    struct causeway_bell_writer *writer = causeway_bells_enter();
    if (writer == NULL) {
        // Out of memory or threads: the best that is left.
        make_non_blocking(descriptor);
        return write(descriptor, &count, sizeof count) == sizeof count ? causeway_bell_told : causeway_bell_full;
    }
    int outcome = causeway_bells_write(descriptor, count);
    causeway_bells_leave(writer);
    return outcome;
}

void causeway_bells_wait(void) {
    // Whoever enters stores its turn and then loads what it goes by, without a fence: this is the fence. The kernel refuses it as long as
    // nobody has entered, and whoever is the first sees what is stored now.
    atomic_thread_fence(memory_order_seq_cst);
    syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    atomic_thread_fence(memory_order_seq_cst);
    for (struct causeway_bell_writer *each = atomic_load(&writers); each != NULL; each = each->next) {
        uint32_t turn = atomic_load(&each->turn);
        while ((turn & 1) && atomic_load(&each->turn) == turn) sched_yield();
    }
}

uint64_t causeway_take_bell(int descriptor) {
    uint64_t count = 0;
    struct iovec place = {.iov_base = &count, .iov_len = sizeof count};
    ssize_t length = preadv2(descriptor, &place, 1, -1, RWF_NOWAIT);
    if (length < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) length = read(descriptor, &count, sizeof count);
    return length == sizeof count ? count : 0;
}
