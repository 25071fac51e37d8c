/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Kernel interfaces younger than Debian 12's headers. */
#ifndef FAIRLEAD_COMPAT_H
#define FAIRLEAD_COMPAT_H

enum {
	LB_TCX_NEXT = -1,
	LB_TCX_DROP = 2,
};

/* LB_F_IPV6 is of Linux 6.16; the loader says whether the kernel knows it. */
enum {
	LB_ADJ_ROOM_DECAP_L3_IPV4 = 1 << 7,
	LB_ADJ_ROOM_DECAP_L3_IPV6 = 1 << 8,
	LB_F_IPV6 = 1 << 7,
};

#endif
