#define _GNU_SOURCE
#include "Confine.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// The kernel's own, as of its versions 1 to 7: Debian's header knows the first only.
struct ruleset_attributes { uint64_t files, network, scopes; };
struct path_rule { uint64_t allowed; int32_t parent; } __attribute__((packed));
enum { create_version = 1, path_beneath = 1 };
#define EXECUTE (1ull << 0)
#define WRITE_FILE (1ull << 1)
#define READ_FILE (1ull << 2)
#define READ_DIRECTORY (1ull << 3)
#define REMOVE_FILE (1ull << 5)
#define TRUNCATE (1ull << 14)
#define DEVICE_IOCTL (1ull << 15)

// The numbers are the same on every architecture.
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

int causeway_landlock_version(void) {
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, create_version);
    return version < 0 ? 0 : (int)version;
}

// Every right of files that a version knows: 13 at first, then refer, truncate, and ioctl of devices.
static uint64_t file_rights(int version) {
    int count = version >= 5 ? 16 : version >= 3 ? 15 : version >= 2 ? 14 : 13;
    return (1ull << count) - 1;
}

static int add_path(int ruleset, const char *path, uint64_t rights) {
    struct path_rule rule = {.parent = open(path, O_PATH | O_CLOEXEC)};
    if (rule.parent < 0) return errno == ENOENT || errno == EACCES || errno == ENOTDIR ? 0 : -1;
    struct stat status;
    int result = fstat(rule.parent, &status);
    // A file has no entries.
    rule.allowed = result == 0 && S_ISDIR(status.st_mode) ? rights
                                                          : rights & (EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | DEVICE_IOCTL);
    if (result == 0) result = (int)syscall(SYS_landlock_add_rule, ruleset, path_beneath, &rule, 0);
    close(rule.parent);
    return result;
}

int causeway_restrict_files(const char *const *paths, const uint8_t *access, size_t count) {
    int version = causeway_landlock_version();
    uint64_t all = file_rights(version);
    struct ruleset_attributes attributes = {.files = all};
    size_t size = sizeof attributes.files;
    // TCP's bind and connect; then abstract sockets and signals.
    if (version >= 4) { attributes.network = 3; size = 2 * sizeof attributes.files; }
    if (version >= 6) { attributes.scopes = 3; size = sizeof attributes; }
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attributes, size, 0);
    if (ruleset < 0) return -1;
    int result = 0;
    const uint64_t rights[] = {READ_FILE | READ_DIRECTORY, all & ~EXECUTE, REMOVE_FILE};
    for (size_t each = 0; each < count && result == 0; each++) result = add_path(ruleset, paths[each], rights[access[each] % 3]);
    if (result == 0) result = (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
    int error = errno;
    close(ruleset);
    errno = error;
    return result;
}
