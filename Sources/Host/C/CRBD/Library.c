#include "CRBD.h"
#include "Table.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

static struct causeway_rbd_functions found;
static _Atomic(const struct causeway_rbd_functions *) current;
static char reason[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

const struct causeway_rbd_functions *causeway_rbd_table(void)
{
    return atomic_load_explicit(&current, memory_order_acquire);
}

void causeway_rbd_use(const struct causeway_rbd_functions *functions)
{
    atomic_store_explicit(&current, functions, memory_order_release);
}

static void fail(void)
{
    const char *words = dlerror();
    snprintf(reason, sizeof reason, "%s", words ? words : "unknown error");
}

static int find(void *library, const char *name, void **place)
{
    *place = dlsym(library, name);
    if (*place) return 0;
    fail();
    return -1;
}

static void load(void)
{
    // Never unloaded: its threads may outlive the last image.
    const int how = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE;
    void *rados = dlopen("librados.so.2", how);
    void *rbd = rados ? dlopen("librbd.so.1", how) : NULL;
    if (!rbd) {
        fail();
        return;
    }
#define RADOS(name) if (find(rados, #name, (void **)&found.name)) return
#define RBD(name) if (find(rbd, #name, (void **)&found.name)) return
    RADOS(rados_create2);
    RADOS(rados_conf_read_file);
    RADOS(rados_conf_set);
    RADOS(rados_conf_get);
    RADOS(rados_connect);
    RADOS(rados_shutdown);
    RADOS(rados_getaddrs);
    RADOS(rados_buffer_free);
    RADOS(rados_blocklist_add);
    RADOS(rados_cluster_fsid);
    RADOS(rados_ioctx_create);
    RADOS(rados_ioctx_destroy);
    RADOS(rados_ioctx_set_namespace);
    RADOS(rados_set_pool_full_try);
    RBD(rbd_open);
    RBD(rbd_open_read_only);
    RBD(rbd_close);
    RBD(rbd_get_size);
    RBD(rbd_get_features);
    RBD(rbd_lock_acquire);
    RBD(rbd_lock_get_owners);
    RBD(rbd_lock_get_owners_cleanup);
    RBD(rbd_lock_break);
    RBD(rbd_watchers_list);
    RBD(rbd_watchers_list_cleanup);
    RBD(rbd_update_watch);
    RBD(rbd_update_unwatch);
    RBD(rbd_set_image_notification);
    RBD(rbd_poll_io_events);
    RBD(rbd_aio_create_completion);
    RBD(rbd_aio_get_arg);
    RBD(rbd_aio_get_return_value);
    RBD(rbd_aio_release);
    RBD(rbd_aio_read);
    RBD(rbd_aio_writev);
    RBD(rbd_aio_flush);
    RBD(rbd_aio_discard);
    RBD(rbd_aio_write_zeroes);
    causeway_rbd_end_with_process(2000);
    causeway_rbd_use(&found);
}

const char *causeway_rbd_load(void)
{
    if (causeway_rbd_table()) return NULL;
    pthread_once(&once, load);
    return causeway_rbd_table() ? NULL : reason;
}
