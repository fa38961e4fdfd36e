// Holds libcauseway-libxen to what Xen's own libraries do on Linux, as domain 0 of a loopback host on which there is a domain 1. Says
// nothing and ends with 0 if all is so. `contracts PART…` for some of the parts.
#include "contracts.h"

int main(int count, char **words)
{
    if (count == 2 && strcmp(words[1], "peer") == 0)
        return act_as_peer();
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(120);
    struct peer peer = start_peer(words[0]);
    struct { const char *name; void (*run)(struct peer *); } parts[] = {
        {"grants", grants}, {"copies", copies}, {"events", events}, {"restrictions", restrictions}, {"threads", threads}, {"forks", forks},
    };
    struct { const char *name; void (*run)(void); } alone[] = {{"shares", shares}, {"foreign", foreign}, {"calls", calls}};
    for (size_t part = 0; part < sizeof parts / sizeof *parts; part++) {
        int wanted = count == 1;
        for (int word = 1; word < count; word++)
            wanted |= strcmp(words[word], parts[part].name) == 0;
        if (wanted)
            parts[part].run(&peer);
    }
    for (size_t part = 0; part < sizeof alone / sizeof *alone; part++) {
        int wanted = count == 1;
        for (int word = 1; word < count; word++)
            wanted |= strcmp(words[word], alone[part].name) == 0;
        if (wanted)
            alone[part].run();
    }
    end_peer(&peer, 0);
    if (count == 1)
        broken_pipes(words[0]);
    return failures ? 1 : 0;
}
