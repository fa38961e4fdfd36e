#include "Table.h"

#include <errno.h>

enum { takes_room = 1 };

static int begin(struct causeway_rbd_image *image, void *argument, void **completion)
{
    return image->functions->rbd_aio_create_completion(argument, NULL, completion);
}

// What was not begun is not reported either: its completion is still ours.
static int begun(struct causeway_rbd_image *image, void *completion, int result)
{
    if (result < 0) image->functions->rbd_aio_release(completion);
    return result < 0 ? result : 0;
}

int causeway_rbd_read(struct causeway_rbd_image *image, uint64_t offset, void *buffer, size_t count, void *argument)
{
    void *completion;
    int result = begin(image, argument, &completion);
    return result < 0 ? result : begun(image, completion, image->functions->rbd_aio_read(image->image, offset, count, buffer, completion));
}

int causeway_rbd_write(struct causeway_rbd_image *image, uint64_t offset, const struct iovec *vectors, int count, void *argument)
{
    void *completion;
    int result = begin(image, argument, &completion);
    return result < 0 ? result : begun(image, completion, image->functions->rbd_aio_writev(image->image, vectors, count, offset, completion));
}

int causeway_rbd_flush(struct causeway_rbd_image *image, void *argument)
{
    void *completion;
    int result = begin(image, argument, &completion);
    return result < 0 ? result : begun(image, completion, image->functions->rbd_aio_flush(image->image, completion));
}

int causeway_rbd_discard(struct causeway_rbd_image *image, uint64_t offset, uint64_t count, void *argument)
{
    void *completion;
    int result = begin(image, argument, &completion);
    return result < 0 ? result : begun(image, completion, image->functions->rbd_aio_discard(image->image, offset, count, completion));
}

int causeway_rbd_zero(struct causeway_rbd_image *image, uint64_t offset, uint64_t count, int keeps_room, void *argument)
{
    void *completion;
    int result = begin(image, argument, &completion);
    if (result < 0) return result;
    result = image->functions->rbd_aio_write_zeroes(image->image, offset, count, completion, keeps_room ? takes_room : 0, 0);
    return begun(image, completion, result);
}

int causeway_rbd_reap(struct causeway_rbd_image *image, struct causeway_rbd_done *done, int count)
{
    void *completions[64];
    int most = count < 64 ? count : 64;
    int found = image->functions->rbd_poll_io_events(image->image, completions, most);
    for (int each = 0; each < found; each++) {
        done[each].argument = image->functions->rbd_aio_get_arg(completions[each]);
        done[each].result = image->functions->rbd_aio_get_return_value(completions[each]);
        image->functions->rbd_aio_release(completions[each]);
    }
    return found;
}
