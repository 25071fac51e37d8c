/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Explicit congestion notification in the tunnel (RFC 6040): what routers mark
 * outside must reach the receiver inside.
 */
#ifndef FAIRLEAD_ECN_H
#define FAIRLEAD_ECN_H

#include <linux/types.h>

#define LB_ECN_MASK 3
#define LB_ECN_ECT1 1
#define LB_ECN_ECT0 2
#define LB_ECN_CE 3

/* Is a mark on a packet whose sender would not understand it? */
static __always_inline int ecn_is_lost(__u8 outer, __u8 inner)
{
	return (outer & LB_ECN_MASK) == LB_ECN_CE && !(inner & LB_ECN_MASK);
}

/* The inner type of service after decapsulation. */
static __always_inline __u8 ecn_decap(__u8 outer, __u8 inner)
{
	if (!(inner & LB_ECN_MASK))
		return inner;
	if ((outer & LB_ECN_MASK) == LB_ECN_CE)
		return inner | LB_ECN_CE;
	if ((outer & LB_ECN_MASK) == LB_ECN_ECT1 && (inner & LB_ECN_MASK) == LB_ECN_ECT0)
		return (inner & ~LB_ECN_MASK) | LB_ECN_ECT1;
	return inner;
}

#endif
