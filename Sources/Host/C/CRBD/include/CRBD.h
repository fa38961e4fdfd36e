// Ceph's block devices through its own library, which is looked for when the first such disk is opened: whoever has none carries no Ceph, and builds
// without its headers. The functions that are used stand here with the prototypes that librbd.so.1 and librados.so.2 have had since Ceph 16;
// handles are `void *` in them, as there. Each function here that can fail answers 0 or more, or a negative errno.
#ifndef CAUSEWAY_CRBD_H
#define CAUSEWAY_CRBD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

// rbd_image_watcher_t.
struct causeway_rbd_watcher {
    char *address;
    int64_t id;
    uint64_t cookie;
};

// The library's own functions, by their names there.
struct causeway_rbd_functions {
    int (*rados_create2)(void **cluster, const char *name, const char *user, uint64_t flags);
    int (*rados_conf_read_file)(void *cluster, const char *path);
    int (*rados_conf_set)(void *cluster, const char *option, const char *value);
    int (*rados_conf_get)(void *cluster, const char *option, char *buffer, size_t size);
    int (*rados_connect)(void *cluster);
    void (*rados_shutdown)(void *cluster);
    int (*rados_getaddrs)(void *cluster, char **addresses);
    void (*rados_buffer_free)(char *buffer);
    int (*rados_blocklist_add)(void *cluster, const char *address, uint32_t seconds);
    int (*rados_cluster_fsid)(void *cluster, char *buffer, size_t size);
    int (*rados_ioctx_create)(void *cluster, const char *pool, void **io);
    void (*rados_ioctx_destroy)(void *io);
    void (*rados_ioctx_set_namespace)(void *io, const char *name);
    void (*rados_set_pool_full_try)(void *io);
    int (*rbd_open)(void *io, const char *name, void **image, const char *snapshot);
    int (*rbd_open_read_only)(void *io, const char *name, void **image, const char *snapshot);
    int (*rbd_close)(void *image);
    int (*rbd_get_size)(void *image, uint64_t *bytes);
    int (*rbd_get_features)(void *image, uint64_t *features);
    int (*rbd_lock_acquire)(void *image, int mode);
    int (*rbd_lock_get_owners)(void *image, int *mode, char **owners, size_t *count);
    void (*rbd_lock_get_owners_cleanup)(char **owners, size_t count);
    int (*rbd_lock_break)(void *image, int mode, const char *owner);
    int (*rbd_watchers_list)(void *image, struct causeway_rbd_watcher *watchers, size_t *count);
    void (*rbd_watchers_list_cleanup)(struct causeway_rbd_watcher *watchers, size_t count);
    int (*rbd_update_watch)(void *image, uint64_t *handle, void (*changed)(void *), void *argument);
    int (*rbd_update_unwatch)(void *image, uint64_t handle);
    int (*rbd_set_image_notification)(void *image, int descriptor, int type);
    int (*rbd_poll_io_events)(void *image, void **completions, int count);
    int (*rbd_aio_create_completion)(void *argument, void (*done)(void *, void *), void **completion);
    void *(*rbd_aio_get_arg)(void *completion);
    ssize_t (*rbd_aio_get_return_value)(void *completion);
    void (*rbd_aio_release)(void *completion);
    int (*rbd_aio_read)(void *image, uint64_t offset, size_t count, char *buffer, void *completion);
    int (*rbd_aio_writev)(void *image, const struct iovec *vectors, int count, uint64_t offset, void *completion);
    int (*rbd_aio_flush)(void *image, void *completion);
    int (*rbd_aio_discard)(void *image, uint64_t offset, uint64_t count, void *completion);
    int (*rbd_aio_write_zeroes)(void *image, uint64_t offset, size_t count, void *completion, int how, int flags);
};

// Finds the library, once for the process, and lets it stay. NULL: it is there; else why not, in the loader's words. From any thread.
const char *causeway_rbd_load(void);
// In the library's place from now on, for tests: as old as the process.
void causeway_rbd_use(const struct causeway_rbd_functions *functions);

// An image and the connection to its cluster, which is its own: whoever is fenced loses all that one connection has.
struct causeway_rbd_image;

// What is told apart in an image's life, so that an error can be said of what it is about. Each may block but for the first three.
struct causeway_rbd_image *causeway_rbd_create(const char *user, int *error);
// The configuration at `path`; NULL: where Ceph looks for it.
int causeway_rbd_configure(struct causeway_rbd_image *image, const char *path);
int causeway_rbd_set(struct causeway_rbd_image *image, const char *option, const char *value);
// 0 where there is no such option, or no number in it.
uint64_t causeway_rbd_get(struct causeway_rbd_image *image, const char *option);
int causeway_rbd_connect(struct causeway_rbd_image *image);
int causeway_rbd_use_pool(struct causeway_rbd_image *image, const char *pool, const char *name_space);
// Completions are counted in the eventfd `bell` from then on, which is kept open until the image is closed.
int causeway_rbd_open(struct causeway_rbd_image *image, const char *name, const char *snapshot, int is_read_only, int bell);
// Closes what there is of it, all of it; a request must not be in flight. May take as long as the cluster is away.
void causeway_rbd_close(struct causeway_rbd_image *image);

// This connection's address as others see it in an image's lock, and the cluster's number; empty: it cannot be told. At most `size` bytes.
void causeway_rbd_address(struct causeway_rbd_image *image, char *buffer, size_t size);
void causeway_rbd_cluster(struct causeway_rbd_image *image, char *buffer, size_t size);
int causeway_rbd_size(struct causeway_rbd_image *image, uint64_t *bytes);
int causeway_rbd_features(struct causeway_rbd_image *image, uint64_t *features);
// How often the image's size, features or snapshots were changed by anybody since it was opened. Does not block.
uint64_t causeway_rbd_changes(struct causeway_rbd_image *image);

// Who has the image's exclusive lock: 1 and an address; 0: nobody.
int causeway_rbd_owner(struct causeway_rbd_image *image, char *buffer, size_t size);
// 1: a client of that address has the image open, or was killed so lately that the cluster does not know yet.
int causeway_rbd_is_watched(struct causeway_rbd_image *image, const char *address);
int causeway_rbd_lock(struct causeway_rbd_image *image);
// Takes the lock from its owner, whom the cluster refuses from then on, for a day.
int causeway_rbd_break(struct causeway_rbd_image *image, const char *owner);

// Requests. What is answered otherwise than with 0 was not begun; else `causeway_rbd_reap` brings `argument` back. The bytes of a write are copied
// before its call returns; those of a read are written until it has come back. None blocks.
int causeway_rbd_read(struct causeway_rbd_image *image, uint64_t offset, void *buffer, size_t count, void *argument);
int causeway_rbd_write(struct causeway_rbd_image *image, uint64_t offset, const struct iovec *vectors, int count, void *argument);
int causeway_rbd_flush(struct causeway_rbd_image *image, void *argument);
int causeway_rbd_discard(struct causeway_rbd_image *image, uint64_t offset, uint64_t count, void *argument);
// `keeps_room`: the zeroes are written and take room.
int causeway_rbd_zero(struct causeway_rbd_image *image, uint64_t offset, uint64_t count, int keeps_room, void *argument);

struct causeway_rbd_done {
    void *argument;
    // Bytes that were read; else 0; or a negative errno.
    int64_t result;
};
// Takes requests that have ended, at most `count`; to be called until it answers 0.
int causeway_rbd_reap(struct causeway_rbd_image *image, struct causeway_rbd_done *done, int count);

// Waits until what was being closed is closed, at most that long; 0: it is.
int causeway_rbd_await_closing(int milliseconds);
// One more image will be closed by `causeway_rbd_close`, soon and on another thread; and it is.
void causeway_rbd_will_close(void);
void causeway_rbd_did_close(void);

#endif
