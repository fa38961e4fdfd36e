#include "CMap.h"
#include <map>

static std::map<uint64_t, uint64_t> map;

extern "C" void cmap_insert(uint64_t key, uint64_t value) { map.emplace(key, value); }
extern "C" uint64_t cmap_find(uint64_t key) {
    auto found = map.find(key);
    return found == map.end() ? 0 : found->second;
}
extern "C" void cmap_clear(void) { map.clear(); }
