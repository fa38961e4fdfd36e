// A vchan's two ends through libxenvchan. `server` and `client` say hello and wait until the other is gone; `send` and `receive` move
// 8 MiB through rings of the size that the server is given.
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libxenvchan.h>

enum { total = 8 << 20 };

static sigjmp_buf back;
static void fault(int signal)
{
    (void)signal;
    siglongjmp(back, 1);
}

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return 1;
}

static void say(const char *line)
{
    printf("%s\n", line);
    fflush(stdout);
}

int main(int count, char **words)
{
    if (count < 4)
        return 2;
    alarm(90);
    int serves = strcmp(words[1], "server") == 0 || strcmp(words[1], "send") == 0;
    size_t ring = count > 4 ? strtoul(words[4], NULL, 10) : 1024;
    struct libxenvchan *vchan = NULL;
    if (serves) {
        vchan = libxenvchan_server_init(NULL, atoi(words[2]), words[3], ring, ring);
    } else {
        for (int attempt = 0; !vchan && attempt < 500; attempt++) {
            vchan = libxenvchan_client_init(NULL, atoi(words[2]), words[3]);
            if (!vchan)
                usleep(10000);
        }
    }
    if (!vchan)
        return fail("no vchan");
    vchan->blocking = 1;
    unsigned char hello = 0;
    if (serves) {
        say("serving");
        while (libxenvchan_is_open(vchan) == 2)
            libxenvchan_wait(vchan);
    }
    if (strcmp(words[1], "send") == 0) {
        unsigned char *bytes = malloc(total);
        for (int index = 0; index < total; index++)
            bytes[index] = (unsigned char)(index * 31 + index / 257);
        for (int sent = 0; sent < total;) {
            int some = libxenvchan_write(vchan, bytes + sent, total - sent);
            if (some <= 0)
                return fail("write");
            sent += some;
        }
        if (libxenvchan_recv(vchan, &hello, 1) != 1)
            return fail("receipt");
        libxenvchan_close(vchan);
        return 0;
    }
    if (strcmp(words[1], "receive") == 0) {
        say("connected");
        unsigned char *bytes = malloc(total);
        for (int got = 0; got < total;) {
            int some = libxenvchan_read(vchan, bytes + got, total - got);
            if (some <= 0)
                return fail("read");
            got += some;
        }
        for (int index = 0; index < total; index++) {
            if (bytes[index] != (unsigned char)(index * 31 + index / 257)) {
                printf("byte %d is wrong\n", index);
                return 1;
            }
        }
        // The ring that it reads is the server's to write.
        struct sigaction action = {.sa_handler = fault};
        sigaction(SIGSEGV, &action, NULL);
        if (sigsetjmp(back, 1) == 0) {
            *(volatile unsigned char *)vchan->read.buffer = 1;
            say("a store is let through");
            return 1;
        }
        printf("%d bytes are right; a store there faults\n", total);
        if (libxenvchan_send(vchan, &hello, 1) != 1)
            return fail("receipt");
        libxenvchan_close(vchan);
        return 0;
    }
    // Each says a byte, so that both know of each other.
    if (libxenvchan_send(vchan, &hello, 1) != 1 || libxenvchan_recv(vchan, &hello, 1) != 1)
        return fail("hello");
    say("connected");
    while (libxenvchan_is_open(vchan) == 1) {
        struct pollfd entry = {.fd = libxenvchan_fd_for_select(vchan), .events = POLLIN};
        // Not longer than a second after the other's end, and that end must ring.
        if (poll(&entry, 1, 60000) <= 0)
            return fail("nothing was heard");
        libxenvchan_wait(vchan);
    }
    say("the other side is gone");
    libxenvchan_close(vchan);
    return 0;
}
