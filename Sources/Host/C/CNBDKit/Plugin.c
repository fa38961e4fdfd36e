#include "CNBDKit.h"
#include "Guard.h"

#include <stdlib.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
// The plugin's functions may run at the same time in several threads: the frontend's queues do their own locking.
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#include <nbdkit-plugin.h>

static struct causeway_lent_bytes lent(const void *start, size_t count)
{
    return (struct causeway_lent_bytes){.start = (void *)start, .count = count};
}

// Sets the client's error and returns what every callback returns on failure.
static int64_t answer(int64_t result)
{
    if (result >= 0)
        return result;
    nbdkit_set_error(-result);
    return -1;
}

void causeway_nbd_report(const char *text)
{
    nbdkit_error("%s", text);
}

// Parameters, then the connection, then its end.

static int config(const char *key, const char *value)
{
    return causeway_nbd_config(lent(key, strlen(key)), lent(value, strlen(value))) == 0 ? 0 : -1;
}

static int config_complete(void)
{
    return causeway_nbd_config_complete() == 0 ? 0 : -1;
}

// After nbdkit has forked, if it does: threads do not survive a fork.
static int after_fork(void)
{
    // First: it gives up what it does not need, which is a thread's own.
    if (causeway_nbd_begin() != 0) return -1;
    causeway_guard_watch();
    return 0;
}

// The last call there is; nbdkit itself would end with success.
static void unload(void)
{
    int status = causeway_nbd_status();
    if (status != 0)
        exit(status);
}

void causeway_nbd_shut_down(void)
{
    nbdkit_shutdown();
}

// What a client is told of the disk. The disk is the process's; a connection needs a handle that is not null and nothing more.

static int connected(int readonly)
{
    causeway_guard_connected();
    return 0;
}

static void *open_connection(int readonly)
{
    causeway_nbd_open();
    return (void *)1;
}

static void close_connection(void *handle)
{
    causeway_nbd_close();
}

static int64_t get_size(void *handle)
{
    return answer(causeway_nbd_byte_count());
}

static int block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    struct causeway_nbd_block_sizes sizes = causeway_nbd_sizes();
    if (sizes.error != 0)
        return answer(sizes.error);
    *minimum = sizes.minimum;
    *preferred = sizes.preferred;
    *maximum = sizes.maximum;
    return 0;
}

static int can_write(void *handle)
{
    return answer(causeway_nbd_can_write());
}

static int yes(void *handle)
{
    return 1;
}

// A flush that follows the write is all the protocol has; nbdkit sends it.
static int can_fua(void *handle)
{
    return NBDKIT_FUA_EMULATE;
}

static int can_trim(void *handle)
{
    return answer(causeway_nbd_can_trim());
}

// What a client may do with it.

static int pread_disk(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    return answer(causeway_nbd_read(lent(buffer, count), offset));
}

static int pwrite_disk(void *handle, const void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    return answer(causeway_nbd_write(lent(buffer, count), offset));
}

static int flush_disk(void *handle, uint32_t flags)
{
    return answer(causeway_nbd_flush());
}

static int trim_disk(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    return answer(causeway_nbd_trim(offset, count));
}

static struct nbdkit_plugin plugin = {
    .name = "causeway",
    .longname = "Causeway: a paravirtual disk through its frontend",
    .config = config,
    .config_complete = config_complete,
    .after_fork = after_fork,
    .cleanup = causeway_nbd_end,
    .unload = unload,
    .preconnect = connected,
    .open = open_connection,
    .close = close_connection,
    .get_size = get_size,
    .block_size = block_size,
    .can_write = can_write,
    .can_flush = yes,
    .can_fua = can_fua,
    .can_trim = can_trim,
    // All queues lead to one disk, and a flush on any covers what has ended on all.
    .can_multi_conn = yes,
    .pread = pread_disk,
    .pwrite = pwrite_disk,
    .flush = flush_disk,
    .trim = trim_disk,
    .errno_is_preserved = 1,
};

void causeway_nbd_set_help(const char *text)
{
    plugin.config_help = strdup(text);
}

// nbdkit's entry, called by name; what NBDKIT_REGISTER_PLUGIN would define, and more.
struct nbdkit_plugin *plugin_init(void)
{
    // nbdkit unloads a plugin before it exits. Threads of ours that still wind down (the hypervisor's listener, the Swift runtime's own) would
    // then run code that is no longer mapped.
    causeway_stay_loaded(&plugin);
    plugin._struct_size = sizeof plugin;
    plugin._api_version = NBDKIT_API_VERSION;
    plugin._thread_model = THREAD_MODEL;
    causeway_nbd_prepare();
    causeway_guard_begin();
    return &plugin;
}
