#define _GNU_SOURCE
#include "Table.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { exclusive = 0, eventfd_bell = 2, a_day = 86400 };

// An option may be unknown to a later Ceph, and is then as good as set.
static int set(struct causeway_rbd_image *image, const char *option, const char *value)
{
    int result = image->functions->rados_conf_set(image->cluster, option, value);
    return result == -ENOENT ? 0 : result;
}

struct causeway_rbd_image *causeway_rbd_create(const char *user, int *error)
{
    struct causeway_rbd_image *image = calloc(1, sizeof *image);
    *error = -ENOMEM;
    if (!image) return NULL;
    image->functions = causeway_rbd_table();
    char name[256];
    *error = -ENAMETOOLONG;
    if (snprintf(name, sizeof name, "client.%s", user) < (int)sizeof name)
        *error = image->functions->rados_create2(&image->cluster, "ceph", name, 0);
    if (*error < 0) {
        free(image);
        return NULL;
    }
    return image;
}

int causeway_rbd_configure(struct causeway_rbd_image *image, const char *path)
{
    int result = image->functions->rados_conf_read_file(image->cluster, path);
    // Where nobody named a file there need be none: the options may say all.
    return result == -ENOENT && !path ? 0 : result;
}

int causeway_rbd_set(struct causeway_rbd_image *image, const char *option, const char *value)
{
    return image->functions->rados_conf_set(image->cluster, option, value);
}

uint64_t causeway_rbd_get(struct causeway_rbd_image *image, const char *option)
{
    char text[64] = "";
    if (image->functions->rados_conf_get(image->cluster, option, text, sizeof text) < 0) return 0;
    return strtoull(text, NULL, 10);
}

int causeway_rbd_connect(struct causeway_rbd_image *image)
{
    static const struct { const char *option, *value; } own[] = {
        // What is wrong is said once, by whoever opens the disk.
        {"log_to_stderr", "false"}, {"err_to_stderr", "false"}, {"clog_to_stderr", "false"},
        // A cluster that does not answer is not waited for, and looked for again.
        {"client_mount_timeout", "5"}, {"rados_mon_op_timeout", "5"}, {"rados_osd_op_timeout", "5"},
        // What is answered is on the OSDs: a backend that is killed loses nothing.
        {"rbd_cache", "false"},
        // A write's bytes may be changed once it has begun.
        {"rbd_disable_zero_copy_writes", "true"}, {"rbd_non_blocking_aio", "true"},
        // Whoever loses the lock by force is kept out. For how long `causeway_rbd_break` says: Ceph 16's librbd tells the cluster in a form that
        // is refused (EINVAL), unless it is the cluster's own hour.
        {"rbd_blocklist_on_break_lock", "true"}, {"rbd_blocklist_expire_seconds", "0"},
    };
    for (size_t each = 0; each < sizeof own / sizeof *own; each++) {
        int result = set(image, own[each].option, own[each].value);
        if (result < 0) return result;
    }
    int result = image->functions->rados_connect(image->cluster);
    image->is_connected = result >= 0;
    return result;
}

int causeway_rbd_use_pool(struct causeway_rbd_image *image, const char *pool, const char *name_space)
{
    int result = image->functions->rados_ioctx_create(image->cluster, pool, &image->io);
    if (result < 0) return result;
    if (*name_space) image->functions->rados_ioctx_set_namespace(image->io, name_space);
    // A write for which a full pool has no room is answered, and does not wait for room.
    image->functions->rados_set_pool_full_try(image->io);
    return 0;
}

static void changed(void *argument)
{
    struct causeway_rbd_image *image = argument;
    atomic_fetch_add_explicit(&image->changes, 1, memory_order_release);
}

int causeway_rbd_open(struct causeway_rbd_image *image, const char *name, const char *snapshot, int is_read_only, int bell)
{
    const struct causeway_rbd_functions *functions = image->functions;
    int result = is_read_only ? functions->rbd_open_read_only(image->io, name, &image->image, *snapshot ? snapshot : NULL)
                              : functions->rbd_open(image->io, name, &image->image, NULL);
    if (result < 0) {
        image->image = NULL;
        return result;
    }
    result = functions->rbd_set_image_notification(image->image, bell, eventfd_bell);
    if (result < 0) return result;
    result = functions->rbd_update_watch(image->image, &image->watch, changed, image);
    image->is_watching = result >= 0;
    return result;
}

void causeway_rbd_close(struct causeway_rbd_image *image)
{
    const struct causeway_rbd_functions *functions = image->functions;
    if (image->is_watching) functions->rbd_update_unwatch(image->image, image->watch);
    if (image->image) functions->rbd_close(image->image);
    if (image->io) functions->rados_ioctx_destroy(image->io);
    functions->rados_shutdown(image->cluster);
    free(image);
}

void causeway_rbd_address(struct causeway_rbd_image *image, char *buffer, size_t size)
{
    char *address = NULL;
    buffer[0] = 0;
    if (image->functions->rados_getaddrs(image->cluster, &address) < 0 || !address) return;
    snprintf(buffer, size, "%s", address);
    image->functions->rados_buffer_free(address);
}

void causeway_rbd_cluster(struct causeway_rbd_image *image, char *buffer, size_t size)
{
    if (image->functions->rados_cluster_fsid(image->cluster, buffer, size) < 0) buffer[0] = 0;
}

int causeway_rbd_size(struct causeway_rbd_image *image, uint64_t *bytes)
{
    return image->functions->rbd_get_size(image->image, bytes);
}

int causeway_rbd_features(struct causeway_rbd_image *image, uint64_t *features)
{
    return image->functions->rbd_get_features(image->image, features);
}

uint64_t causeway_rbd_changes(struct causeway_rbd_image *image)
{
    return atomic_load_explicit(&image->changes, memory_order_acquire);
}

int causeway_rbd_owner(struct causeway_rbd_image *image, char *buffer, size_t size)
{
    char *owners[4];
    size_t count = 4;
    int mode = 0;
    int result = image->functions->rbd_lock_get_owners(image->image, &mode, owners, &count);
    buffer[0] = 0;
    if (result == -ENOENT) return 0;
    if (result < 0) return result;
    if (count > 0) snprintf(buffer, size, "%s", owners[0]);
    image->functions->rbd_lock_get_owners_cleanup(owners, count);
    return count > 0;
}

int causeway_rbd_is_watched(struct causeway_rbd_image *image, const char *address)
{
    struct causeway_rbd_watcher *watchers = NULL;
    size_t count = 16;
    int result;
    do {
        free(watchers);
        watchers = calloc(count, sizeof *watchers);
        if (!watchers) return -ENOMEM;
        // It says how many there are where these are too few.
        result = image->functions->rbd_watchers_list(image->image, watchers, &count);
    } while (result == -ERANGE);
    if (result >= 0) {
        int is_there = 0;
        for (size_t each = 0; each < count; each++) is_there |= !strcmp(watchers[each].address, address);
        image->functions->rbd_watchers_list_cleanup(watchers, count);
        result = is_there;
    }
    free(watchers);
    return result;
}

int causeway_rbd_lock(struct causeway_rbd_image *image)
{
    return image->functions->rbd_lock_acquire(image->image, exclusive);
}

int causeway_rbd_break(struct causeway_rbd_image *image, const char *owner)
{
    // First for a day: one that is frozen for longer than the hour that breaking keeps it out is to stay out, and what is there is not made longer.
    int result = image->functions->rados_blocklist_add(image->cluster, owner, a_day);
    return result < 0 ? result : image->functions->rbd_lock_break(image->image, exclusive, owner);
}
