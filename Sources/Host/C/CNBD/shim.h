// libnbd, for disks that are an NBD URI.
#ifndef CAUSEWAY_CNBD_SHIM_H
#define CAUSEWAY_CNBD_SHIM_H
#include <libnbd.h>
#endif
