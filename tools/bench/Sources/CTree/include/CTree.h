/* The obvious reference: glibc's tsearch, a balanced binary tree, keyed by page. */
#ifndef CTREE_H
#define CTREE_H
#include "CMap.h"
#include <stdint.h>
void ctree_insert(uint64_t key, uint64_t value);
/* The value, or 0. */
uint64_t ctree_find(uint64_t key);
void ctree_clear(void);
#endif
