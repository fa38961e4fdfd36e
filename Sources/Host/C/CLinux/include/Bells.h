// Eventfds that somebody else has, too: he can make them block, at any moment, and fill or empty them.
#ifndef CAUSEWAY_BELLS_H
#define CAUSEWAY_BELLS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

// What became of a count that was to be added.
enum { causeway_bell_told = 0, causeway_bell_full = 1, causeway_bell_blocked = 2 };

// Adds to an eventfd's count. One that is full and blocks holds the thread for 10 to 30 ms; then the write is given up and the eventfd made
// non-blocking again. Costs two stores over a write.
int causeway_ring_bell(int descriptor, uint64_t count);

// One thread that writes.
struct causeway_bell_writer {
    // Odd while it is inside.
    _Atomic uint32_t turn;
    _Atomic int thread;
    _Atomic int is_taken;
    // The watching thread's own.
    uint32_t seen;
    struct causeway_bell_writer *next;
};

// No library of ours shows any of it.
#define CAUSEWAY_BELLS_OWN __attribute__((visibility("hidden")))

// This thread; NULL: it has not written yet.
CAUSEWAY_BELLS_OWN extern __thread struct causeway_bell_writer *causeway_bell_own;
// 1: the watching thread sleeps until somebody writes.
CAUSEWAY_BELLS_OWN extern _Atomic uint32_t causeway_bells_asleep;
// 1: the kernel cannot put a fence into all threads, so each has one of its own.
CAUSEWAY_BELLS_OWN extern _Atomic uint32_t causeway_bells_fenced;

// This thread's place among those that are watched; NULL: there is none.
struct causeway_bell_writer *causeway_bells_join(void);
void causeway_bells_wake(void);

// This thread is inside from here until `leave`: what it loads from here on is what `wait` waits for. NULL: it cannot be watched.
static inline struct causeway_bell_writer *causeway_bells_enter(void) {
    struct causeway_bell_writer *writer = causeway_bell_own;
    if (__builtin_expect(writer == NULL, 0)) {
        writer = causeway_bells_join();
        if (writer == NULL) return NULL;
    }
    uint32_t turn = atomic_load_explicit(&writer->turn, memory_order_relaxed);
    atomic_store_explicit(&writer->turn, turn + 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    if (__builtin_expect(atomic_load_explicit(&causeway_bells_fenced, memory_order_relaxed), 0)) atomic_thread_fence(memory_order_seq_cst);
    if (__builtin_expect(atomic_load_explicit(&causeway_bells_asleep, memory_order_relaxed), 0)) causeway_bells_wake();
    return writer;
}
static inline void causeway_bells_leave(struct causeway_bell_writer *writer) {
    uint32_t turn = atomic_load_explicit(&writer->turn, memory_order_relaxed);
    atomic_store_explicit(&writer->turn, turn + 1, memory_order_release);
}
// Between the two: adds to an eventfd's count.
int causeway_bells_write(int descriptor, uint64_t count);
// Waits until whoever was inside when this was called is not any more; what was stored before, everybody who enters later sees. The caller is not inside.
void causeway_bells_wait(void);

// Takes an eventfd's count; 0 if it is at rest. Does not block even where the eventfd does (on Linux 5.8 and later).
uint64_t causeway_take_bell(int descriptor);

#endif
