#include "CFakeRBD.h"
#include "CRBD.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { most_bytes = 8 << 20, most_requests = 4096, most_options = 64 };

struct connection { char address[64]; };
struct image {
    struct connection *connection;
    int bell, is_plain, is_read_only, is_open;
    void (*changed)(void *);
    void *argument;
    struct request *ended[most_requests];
    int count;
};
struct io { struct connection *connection; int is_ours; };
enum kind { reading, writing, flushing, discarding, zeroing };
struct request {
    void *argument;
    struct image *image;
    enum kind kind;
    uint64_t offset, count;
    char *buffer;
    int64_t result;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t bytes[most_bytes];
static uint64_t size;
static int held, failing, connecting, opening, broken, refused, images, requests, connections;
static char owner[64];
static int owner_is_open;
static struct { char name[64], value[128]; } options[most_options];
static int option_count;
static struct request *waiting[most_requests];
static int waiting_count;
static struct image *latest;

static int create(void **cluster, const char *name, const char *user, uint64_t flags)
{
    (void)name, (void)user, (void)flags;
    struct connection *made = calloc(1, sizeof *made);
    snprintf(made->address, sizeof made->address, "127.0.0.1:0/%d", 1000 + ++connections);
    *cluster = made;
    return 0;
}
static int read_file(void *cluster, const char *path) { (void)cluster; return path && !strcmp(path, "/none") ? -ENOENT : 0; }
static int set(void *cluster, const char *name, const char *value)
{
    (void)cluster;
    if (!strcmp(name, "none")) return -ENOENT;
    pthread_mutex_lock(&lock);
    int each = 0;
    while (each < option_count && strcmp(options[each].name, name)) each++;
    if (each == option_count && each < most_options) option_count++;
    snprintf(options[each].name, sizeof options[each].name, "%s", name);
    snprintf(options[each].value, sizeof options[each].value, "%s", value);
    pthread_mutex_unlock(&lock);
    return 0;
}
static int get(void *cluster, const char *name, char *buffer, size_t count)
{
    (void)cluster;
    if (strcmp(name, "rbd_discard_granularity_bytes")) return -ENOENT;
    snprintf(buffer, count, "65536");
    return 0;
}
static int do_connect(void *cluster) { (void)cluster; return -connecting; }
static void shut_down(void *cluster) { free(cluster); }
static int addresses(void *cluster, char **text) { *text = strdup(((struct connection *)cluster)->address); return 0; }
static void release_text(char *text) { free(text); }
static int blocklist(void *cluster, const char *address, uint32_t seconds)
{
    (void)cluster, (void)address, (void)seconds;
    refused++;
    return 0;
}
static int number(void *cluster, char *buffer, size_t count) { (void)cluster; return snprintf(buffer, count, "cluster"); }
static int make_io(void *cluster, const char *pool, void **io)
{
    if (strcmp(pool, "p")) return -ENOENT;
    struct io *made = calloc(1, sizeof *made);
    made->connection = cluster;
    *io = made;
    return 0;
}
static void end_io(void *io) { free(io); }
static void use_namespace(void *io, const char *name) { (void)io, (void)name; }
static void try_when_full(void *io) { (void)io; }
static int open_any(void *io, const char *name, void **image, const char *snapshot, int is_read_only)
{
    if (opening) return -opening;
    if (strcmp(name, "img") && strcmp(name, "plain")) return -ENOENT;
    if (snapshot && strcmp(snapshot, "snap")) return -ENOENT;
    struct image *made = calloc(1, sizeof *made);
    made->connection = ((struct io *)io)->connection;
    made->is_plain = !strcmp(name, "plain");
    made->is_read_only = is_read_only;
    pthread_mutex_lock(&lock);
    images++;
    latest = made;
    pthread_mutex_unlock(&lock);
    *image = made;
    return 0;
}
static int open_image(void *io, const char *name, void **image, const char *snapshot) { return open_any(io, name, image, snapshot, 0); }
static int open_to_read(void *io, const char *name, void **image, const char *snapshot) { return open_any(io, name, image, snapshot, 1); }
static int close_image(void *image)
{
    struct image *closing = image;
    pthread_mutex_lock(&lock);
    images--;
    if (latest == closing) latest = NULL;
    if (!strcmp(owner, closing->connection->address)) owner[0] = 0;
    pthread_mutex_unlock(&lock);
    free(closing);
    return 0;
}
static int get_size(void *image, uint64_t *result) { (void)image; *result = size; return 0; }
static int get_features(void *image, uint64_t *result) { *result = ((struct image *)image)->is_plain ? 1 : 5; return 0; }
static int take_lock(void *image, int mode)
{
    struct image *asking = image;
    (void)mode;
    pthread_mutex_lock(&lock);
    // The library breaks the lock of whoever has the image open no more.
    int is_free = !owner[0] || !owner_is_open || !strcmp(owner, asking->connection->address);
    if (is_free) snprintf(owner, sizeof owner, "%s", asking->connection->address), owner_is_open = 1;
    pthread_mutex_unlock(&lock);
    return is_free ? 0 : -EROFS;
}
static int owners(void *image, int *mode, char **list, size_t *count)
{
    (void)image;
    *mode = 0;
    if (!owner[0]) return -ENOENT;
    list[0] = strdup(owner);
    *count = 1;
    return 0;
}
static void free_owners(char **list, size_t count) { while (count) free(list[--count]); }
static int break_lock(void *image, int mode, const char *name)
{
    (void)image, (void)mode;
    if (strcmp(owner, name)) return -ENOENT;
    owner[0] = 0;
    broken++;
    return 0;
}
static int watchers(void *image, struct causeway_rbd_watcher *list, size_t *count)
{
    (void)image;
    *count = owner[0] && owner_is_open;
    if (*count) list[0] = (struct causeway_rbd_watcher){.address = strdup(owner), .id = 1, .cookie = 1};
    return 0;
}
static void free_watchers(struct causeway_rbd_watcher *list, size_t count) { while (count) free(list[--count].address); }
static int watch(void *image, uint64_t *handle, void (*changed)(void *), void *argument)
{
    struct image *watched = image;
    watched->changed = changed;
    watched->argument = argument;
    *handle = 1;
    return 0;
}
static int unwatch(void *image, uint64_t handle) { (void)handle; ((struct image *)image)->changed = NULL; return 0; }
static int notify_by(void *image, int descriptor, int type) { (void)type; ((struct image *)image)->bell = descriptor; return 0; }
static int poll_events(void *image, void **list, int count)
{
    struct image *polled = image;
    pthread_mutex_lock(&lock);
    int taken = polled->count < count ? polled->count : count;
    memcpy(list, polled->ended, sizeof *list * (size_t)taken);
    memmove(polled->ended, polled->ended + taken, sizeof *polled->ended * (size_t)(polled->count - taken));
    polled->count -= taken;
    pthread_mutex_unlock(&lock);
    return taken;
}

// Requests.

static void end(struct request *request)
{
    uint64_t left = request->offset < size ? size - request->offset : 0, count = request->count < left ? request->count : left;
    uint8_t *place = bytes + request->offset;
    request->result = 0;
    if (failing) request->result = -failing;
    else if (request->kind == reading) memcpy(request->buffer, place, count), request->result = (int64_t)count;
    else if (request->kind == writing) memcpy(place, request->buffer, count);
    else if (request->kind == zeroing || (request->kind == discarding && count >= 65536)) memset(place, 0, count);
    if (request->kind == writing) free(request->buffer);
    request->image->ended[request->image->count++] = request;
    uint64_t one = 1;
    if (write(request->image->bell, &one, sizeof one) < 0) abort();
}
static int begin(void *image, void *completion, enum kind kind, uint64_t offset, uint64_t count, char *buffer)
{
    struct request *request = completion;
    request->image = image;
    request->kind = kind;
    request->offset = offset;
    request->count = count;
    request->buffer = buffer;
    pthread_mutex_lock(&lock);
    if (held) waiting[waiting_count++] = request;
    else end(request);
    pthread_mutex_unlock(&lock);
    return 0;
}
static int create_completion(void *argument, void (*done)(void *, void *), void **completion)
{
    (void)done;
    struct request *request = calloc(1, sizeof *request);
    request->argument = argument;
    pthread_mutex_lock(&lock);
    requests++;
    pthread_mutex_unlock(&lock);
    *completion = request;
    return 0;
}
static void *argument_of(void *completion) { return ((struct request *)completion)->argument; }
static ssize_t result_of(void *completion) { return ((struct request *)completion)->result; }
static void release(void *completion)
{
    pthread_mutex_lock(&lock);
    requests--;
    pthread_mutex_unlock(&lock);
    free(completion);
}
static int do_read(void *image, uint64_t offset, size_t count, char *buffer, void *completion)
{
    return begin(image, completion, reading, offset, count, buffer);
}
static int do_write(void *image, const struct iovec *vectors, int count, uint64_t offset, void *completion)
{
    size_t all = 0;
    for (int each = 0; each < count; each++) all += vectors[each].iov_len;
    char *copy = malloc(all), *place = copy;
    for (int each = 0; each < count; place += vectors[each++].iov_len) memcpy(place, vectors[each].iov_base, vectors[each].iov_len);
    return begin(image, completion, writing, offset, all, copy);
}
static int do_flush(void *image, void *completion) { return begin(image, completion, flushing, 0, 0, NULL); }
static int do_discard(void *image, uint64_t offset, uint64_t count, void *completion)
{
    return begin(image, completion, discarding, offset, count, NULL);
}
static int do_zero(void *image, uint64_t offset, size_t count, void *completion, int how, int flags)
{
    (void)how, (void)flags;
    return begin(image, completion, zeroing, offset, count, NULL);
}

static const struct causeway_rbd_functions table = {
    .rados_create2 = create, .rados_conf_read_file = read_file, .rados_conf_set = set, .rados_conf_get = get, .rados_connect = do_connect,
    .rados_shutdown = shut_down, .rados_getaddrs = addresses, .rados_buffer_free = release_text, .rados_blocklist_add = blocklist,
    .rados_cluster_fsid = number, .rados_ioctx_create = make_io, .rados_ioctx_destroy = end_io, .rados_ioctx_set_namespace = use_namespace,
    .rados_set_pool_full_try = try_when_full, .rbd_open = open_image, .rbd_open_read_only = open_to_read, .rbd_close = close_image,
    .rbd_get_size = get_size, .rbd_get_features = get_features, .rbd_lock_acquire = take_lock, .rbd_lock_get_owners = owners,
    .rbd_lock_get_owners_cleanup = free_owners, .rbd_lock_break = break_lock, .rbd_watchers_list = watchers,
    .rbd_watchers_list_cleanup = free_watchers, .rbd_update_watch = watch, .rbd_update_unwatch = unwatch,
    .rbd_set_image_notification = notify_by, .rbd_poll_io_events = poll_events, .rbd_aio_create_completion = create_completion,
    .rbd_aio_get_arg = argument_of, .rbd_aio_get_return_value = result_of, .rbd_aio_release = release, .rbd_aio_read = do_read,
    .rbd_aio_writev = do_write, .rbd_aio_flush = do_flush, .rbd_aio_discard = do_discard, .rbd_aio_write_zeroes = do_zero,
};

void fake_rbd_begin(uint64_t count)
{
    memset(bytes, 0, sizeof bytes);
    size = count < most_bytes ? count : most_bytes;
    held = failing = connecting = opening = broken = refused = option_count = 0;
    owner[0] = 0;
    causeway_rbd_use(&table);
}
void fake_rbd_hold(int is_held)
{
    pthread_mutex_lock(&lock);
    held = is_held;
    for (int each = 0; !held && each < waiting_count; each++) end(waiting[each]);
    if (!held) waiting_count = 0;
    pthread_mutex_unlock(&lock);
}
void fake_rbd_fail(int number) { failing = number; }
void fake_rbd_refuse(int connect, int open) { connecting = connect, opening = open; }
void fake_rbd_lock(const char *name, int is_open) { snprintf(owner, sizeof owner, "%s", name ? name : ""), owner_is_open = is_open; }
const char *fake_rbd_owner(void) { return owner; }
int fake_rbd_broken(void) { return broken; }
int fake_rbd_refused(void) { return refused; }
void fake_rbd_resize(uint64_t count, int is_told)
{
    size = count;
    if (is_told && latest && latest->changed) latest->changed(latest->argument);
}
const char *fake_rbd_option(const char *name)
{
    for (int each = 0; each < option_count; each++) if (!strcmp(options[each].name, name)) return options[each].value;
    return "";
}
int fake_rbd_images(void) { return images; }
int fake_rbd_requests(void) { return requests; }
uint8_t fake_rbd_byte(uint64_t offset) { return bytes[offset]; }
