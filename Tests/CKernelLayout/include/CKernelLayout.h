/* The kernel's own numbers, as this machine's headers have them, for a comparison with ours. */
#ifndef CKERNELLAYOUT_H
#define CKERNELLAYOUT_H

/* Whether <linux/iommufd.h> was there when this was compiled (Linux 6.2 and later). */
int kernel_has_iommufd_header(void);
/* A size, an offset or a number by its name in kernel_layout.c; -1: no such name. */
long kernel_layout(const char *name);
#endif
