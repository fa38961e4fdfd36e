// What a process that was taken over would try. Each answers 0 if it could, or errno.
#ifndef CAUSEWAY_ATTEMPTS_H
#define CAUSEWAY_ATTEMPTS_H

// Makes what some attempts need, while that is allowed: a pipe of which only the end that rings is kept.
void attempts_prepare(void);
// By name; -1: there is no such attempt. `process` is another process of the same user's.
int attempts_try(const char *name, int process);

#endif
