// What the programs beside this expect of a call: what is otherwise is printed with its line, and counted.
#include <stdio.h>
#include <string.h>

static int failures;

// The last call's message, of what the program is about: 0, or negative if there is none.
static int message(char *words, size_t size);

static void check(int line, long found, long wanted)
{
    if (found == wanted)
        return;
    char words[400] = "";
    message(words, sizeof words);
    printf("line %d: %ld, not %ld (%s)\n", line, found, wanted, words);
    failures++;
}
#define IS(wanted, call) check(__LINE__, (long)(call), (wanted))

static void says(int line, const char *part)
{
    char words[400] = "";
    if (message(words, sizeof words) != 0 || !strstr(words, part)) {
        printf("line %d: \"%s\" says nothing of \"%s\"\n", line, words, part);
        failures++;
    }
}
#define SAYS(part) says(__LINE__, part)
