#define _GNU_SOURCE
#include "Confine.h"

#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

int causeway_no_cores(void) {
    struct rlimit none = {0, 0};
    return setrlimit(RLIMIT_CORE, &none);
}

int causeway_become_user_keeping(uint32_t user, uint32_t group, uint32_t parent) {
    int signal = 0;
    if (prctl(PR_GET_PDEATHSIG, &signal, 0, 0, 0) < 0) return -1;
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) return -1;
    if (setgroups(0, NULL) < 0 || setresgid(group, group, group) < 0 || setresuid(user, user, user) < 0) return -1;
    if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0) return -1;
    if (signal == 0) return 0;
    if (prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) < 0) return -1;
    // It may have ended in between, unheard.
    if ((uint32_t)getppid() != parent) { errno = ESRCH; return -1; }
    return 0;
}

int causeway_leave_network(int own_users) { return unshare(CLONE_NEWNET | (own_users ? CLONE_NEWUSER : 0)); }
