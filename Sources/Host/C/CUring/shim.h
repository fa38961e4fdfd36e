// liburing whole, its inline prep helpers included.
#ifndef CAUSEWAY_CURING_SHIM_H
#define CAUSEWAY_CURING_SHIM_H
// Before liburing: it defines _XOPEN_SOURCE, with which glibc's fd_set has other member names than in Swift's Glibc module, and the two
// could not be imported together. Feature macros count only at the first glibc header.
#include <sys/select.h>
#include <liburing.h>
#endif
