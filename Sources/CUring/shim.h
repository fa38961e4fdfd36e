// liburing whole, its inline prep helpers included.
#ifndef CAUSEWAY_CURING_SHIM_H
#define CAUSEWAY_CURING_SHIM_H
#include <liburing.h>
#endif
