// Ceph's library as tests need it: one image in memory, which answers at once, late, wrongly or never. One test at a time.
#ifndef CAUSEWAY_CFAKERBD_H
#define CAUSEWAY_CFAKERBD_H

#include <stdint.h>

// In the library's place from now on: pool `p` with an image `img` of so many bytes, all zero, with snapshot `snap` of the same, and `plain`, which
// cannot be locked.
void fake_rbd_begin(uint64_t bytes);
// Whether requests stay unanswered. Those that did are answered when that ends.
void fake_rbd_hold(int is_held);
// What every request ends with from now on, as a positive number; 0: as it should.
void fake_rbd_fail(int number);
// What connecting, opening and locking end with; 0: as they should.
void fake_rbd_refuse(int connecting, int opening);
// Somebody has the lock; NULL: nobody. `is_open`: and has the image open.
void fake_rbd_lock(const char *owner, int is_open);
// Who has the lock, or "".
const char *fake_rbd_owner(void);
// How often a lock was broken, and its owner refused.
int fake_rbd_broken(void);
int fake_rbd_refused(void);
// Somebody gives the image another size.
void fake_rbd_resize(uint64_t bytes, int is_told);
// The latest value of an option, or "".
const char *fake_rbd_option(const char *name);
// Images that are open, and requests that have begun and were not taken back.
int fake_rbd_images(void);
int fake_rbd_requests(void);
uint8_t fake_rbd_byte(uint64_t offset);

#endif
