#define _GNU_SOURCE
#include "CTree.h"
#include <search.h>
#include <stdlib.h>

struct page_entry { uint64_t key, value; };
static void *tree;

static int compare(const void *a, const void *b) {
    uint64_t x = ((const struct page_entry *)a)->key, y = ((const struct page_entry *)b)->key;
    return x < y ? -1 : x > y;
}

void ctree_insert(uint64_t key, uint64_t value) {
    struct page_entry *entry = malloc(sizeof *entry);
    if (!entry) abort();
    *entry = (struct page_entry){.key = key, .value = value};
    if (!tsearch(entry, &tree, compare)) abort();
}

uint64_t ctree_find(uint64_t key) {
    struct page_entry wanted = {key, 0};
    struct page_entry **found = tfind(&wanted, &tree, compare);
    return found ? (*found)->value : 0;
}

void ctree_clear(void) { tdestroy(tree, free); tree = 0; }
