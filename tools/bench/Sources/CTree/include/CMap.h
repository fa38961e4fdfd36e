/* Another obvious reference: C++'s std::map, a red-black tree, keyed by page. */
#ifndef CMAP_H
#define CMAP_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
void cmap_insert(uint64_t key, uint64_t value);
/* The value, or 0. */
uint64_t cmap_find(uint64_t key);
void cmap_clear(void);
#ifdef __cplusplus
}
#endif
#endif
