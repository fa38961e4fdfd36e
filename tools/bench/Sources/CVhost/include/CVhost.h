// What a vhost-user front end needs of Linux that Swift cannot import: messages with descriptors beside them, and eventfds.

#pragma once
#include <stddef.h>
#include <stdint.h>

// A connection to the server at `path`; -1 with errno.
int cvhost_connect(const char *path);
// Sends `count` bytes with `descriptors` beside them: 0, or -1 with errno.
int cvhost_send(int socket, const void *bytes, size_t count, const int *descriptors, size_t descriptor_count);
// Receives exactly `count` bytes: 0, or -1 at the end or with errno.
int cvhost_receive(int socket, void *bytes, size_t count);
int cvhost_eventfd(void);
// Adds one to a counter.
void cvhost_ring(int descriptor);
// Waits until a counter has something, for five seconds at most, and takes it; 0, or -1 if there was nothing.
int cvhost_wait(int descriptor);
// Nanoseconds of processors that a process has used so far; 0 if there is none.
uint64_t cvhost_processor_time(int process);
